"""The client's address behind proxies: nobody can choose it who is not trusted."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sercha.roles.api.client import Clients

CLIENTS = Clients([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
STRANGERS = st.sampled_from(["192.0.2.1", "198.51.100.7", "2001:db8::1"])
PROXIES = st.sampled_from(["10.0.0.1", "10.255.0.2", "fd00::7", "::ffff:10.0.0.9"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", b"", "192.0.2.1"),
        ("192.0.2.1", b"198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", b"198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", b"203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", b"198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.1", b"198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", b"[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.0.0.1", b"2001:DB8:0::1", "2001:db8::1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"unknown", "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7, not an address", "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7,", "10.0.0.1"),
        ("10.0.0.1", b"10.0.0.2", "10.0.0.2"),
        ("", b"198.51.100.7", ""),
    ],
)
def test_client_is_the_last_address_that_is_no_proxys(
    peer: str, forwarded_for: bytes, client: str
) -> None:
    assert CLIENTS.address(peer, forwarded_for) == client


@given(st.binary(max_size=60), STRANGERS, st.lists(PROXIES, max_size=3))
def test_what_a_client_writes_itself_changes_nothing(
    written: bytes, stranger: str, proxies: list[str]
) -> None:
    """The stranger wrote a header; the proxy it asked appended its address, and so on."""
    *hops, peer = [stranger, *proxies]
    header = b",".join([written, *(hop.encode() for hop in hops)])

    assert ip_address(CLIENTS.address(peer, header)) == ip_address(stranger)


@given(st.text(max_size=40), st.binary(max_size=60))
def test_without_trusted_proxies_the_header_is_not_read(peer: str, header: bytes) -> None:
    assert Clients(()).address(peer, header) == peer
