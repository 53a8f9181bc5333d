"""Addresses of Redis: what they mean, and that nothing of a password is repeated."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from lockd._redis_address import RedisAddress, parse_address
from lockd._redis_link import explain
from lockd.redis import open_redis_store


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://box", RedisAddress("box")),
        ("redis://box:7000/3", RedisAddress("box", 7000, 3)),
        ("redis://box/?db=4", RedisAddress("box", 6379, 4)),
        ("redis://:p%40ss%2F@10.0.0.1/", RedisAddress("10.0.0.1", password="p@ss/")),
        ("redis://me:pw@[::1]:1/0", RedisAddress("::1", 1, 0, "me", "pw")),
        (
            "redis+sentinel://h1,h2:7/mymaster",
            RedisAddress("mymaster", sentinels=(("h1", 26379), ("h2", 7))),
        ),
        (
            "redis+sentinel://me:p%40@h1/m/3?sentinel_password=s",
            RedisAddress("m", 6379, 3, "me", "p@", None, (("h1", 26379),), "s"),
        ),
    ],
)
def test_parts_of_an_address(url: str, expected: RedisAddress) -> None:
    assert parse_address(url) == expected


def test_text_has_no_secrets() -> None:
    address = parse_address("redis://me:hush@[::1]:7000/2")
    assert str(address) == "redis://[::1]:7000/2"
    assert "hush" not in repr(address)
    assert address.without_secrets("no: 'hush'") == "no: '***'"
    watched = parse_address("redis+sentinel://:hush@h1,[::1]:7/m/1?sentinel_password=still")
    assert str(watched) == "redis+sentinel://h1:26379,[::1]:7/m/1"
    assert "hush" not in repr(watched)
    assert "still" not in repr(watched)
    assert watched.without_secrets("hush, still") == "***, ***"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hush",
        "http://:hush@box",
        "unix:///hush.sock",
        "redis://",
        "redis:///0",
        "redis://:hush/1@box",
        "redis://:hush#1@box:1",
        "redis://:hush?1@box:1",
        "redis://:[hush@box",
        "redis://:pw@box:hush",
        "redis://:pw@box:70000",
        "redis://box/hush",
        "redis://box/-1",
        "redis+sentinel://:hush@h1,h2",
        "redis+sentinel://:hush@h1,/m",
        "redis+sentinel://:hush@h1:hush/m",
        "redis+sentinel://:pw@h1/m/hush",
    ],
)
def test_broken_address_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="form") as caught:
        parse_address(url)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://box?ssl_ca_certs=/ca.pem", "without use: ssl_ca_certs"),
        ("redis://box?socket_timeout=3", "without use: socket_timeout"),
        ("rediss://box?socket_timeout=3", "not known: socket_timeout"),
        ("rediss://box?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs, ssl_certfile or ssl_keyfile"),
        ("rediss://box?ssl_cert_reqs=perhaps", "required or none"),
    ],
)
def test_options_that_mean_nothing_are_refused(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_address(url)


def test_tls_options(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "me.pem")
    )
    url = f"rediss://box?ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/me.pem"

    context = parse_address(url).tls
    assert context is not None
    assert len(context.get_ca_certs()) == 1  # this authority, and no other
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)

    lax = parse_address(f"{url}&ssl_check_hostname=no").tls
    assert lax is not None
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_REQUIRED)
    blind = parse_address("rediss://box?ssl_cert_reqs=none").tls
    assert blind is not None
    assert blind.verify_mode == ssl.CERT_NONE

    given = ssl.create_default_context()
    assert parse_address("rediss://box", given).tls is given
    with pytest.raises(ValueError, match="without use: ssl_ca_certs"):
        parse_address(url, given)
    with pytest.raises(ValueError, match="goes with rediss://"):
        parse_address("redis://box", given)


def test_reasons_are_one_short_line_without_secrets() -> None:
    address = parse_address("redis://:hush@box")
    assert str(explain(address, "no: hush\nreally")) == "redis://box:6379/0: no: ***"
    assert str(explain(address, OSError())) == "redis://box:6379/0: OSError"
    assert len(str(explain(address, "x" * 1000))) < 250


async def test_a_store_without_connections_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        async with open_redis_store("redis://box", connections_max=0):
            raise AssertionError("it was opened")
