"""Whose request it is, behind proxies: the first address from the right that no trusted proxy has.

Each proxy appends the address it was asked from to ``X-Forwarded-For`` (RFC 7239, section 5.2, has the same
order), so only what trusted ones appended can be believed; everything left of it anybody may have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


class Clients:
    """Finds out clients' addresses; *proxies* are the networks whose word on that counts."""

    def __init__(self, proxies: Sequence[Network]) -> None:
        self._proxies = tuple(proxies)

    def address(self, peer: str, forwarded_for: bytes) -> str:
        """Return the address of the client.

        Args:
            peer: who the connection comes from.
            forwarded_for: the values of ``X-Forwarded-For``, joined by commas in their order.
        """
        if not self._proxies:
            return peer
        client = peer
        hops = forwarded_for.split(b",")
        while hops and self._is_proxy(client):
            named = _parse(hops.pop().strip())
            if named is None:
                break
            client = named
        return client

    def _is_proxy(self, text: str) -> bool:
        try:
            address = _unmapped(text)
        except ValueError:  # a socket of the file system, say
            return False
        return any(address in proxies for proxies in self._proxies)


def _parse(hop: bytes) -> str | None:
    """Return an address of the list in its usual spelling, without a port; None: it is none."""
    text = hop.decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(_unmapped(text))
    except ValueError:
        return None


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
