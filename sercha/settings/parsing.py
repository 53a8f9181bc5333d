"""Text into values. Each parser raises `ValueError` saying what is allowed, never repeating the text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

DURATION_FORMS = "`30`, `30s`, `500ms`, `5m` or `1h`"

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)?", re.ASCII)
_UNIT_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9])?)*",
    re.IGNORECASE | re.ASCII,
)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def parse_duration(text: str) -> float:
    """Return seconds; a number without a unit is in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"a duration such as {DURATION_FORMS}")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def duration(low: float, high: float) -> Callable[[str], float]:
    """Make a parser of durations between *low* and *high* seconds, both included."""

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not low <= seconds <= high:
            raise ValueError(f"a duration from {format_seconds(low)} to {format_seconds(high)}")
        return seconds

    return parse


def format_seconds(seconds: float) -> str:
    """Write a duration in the largest unit that gives a whole number."""
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def integer(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers between *low* and *high*, both included."""

    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """Make a parser of one of some words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(" or ".join(f"`{word}`" for word in allowed))
        return text.lower()

    return parse


def parse_boolean(text: str) -> bool:
    """Return a truth value; only four spellings are accepted, so that a typing error is never a no."""
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("`true`, `false`, `1` or `0`") from None


def parse_host(text: str) -> str:
    """Return an IP address or a host name to listen on."""
    try:
        return str(ip_address(text))
    except ValueError:
        if _HOST_NAME.fullmatch(text) and not text.replace(".", "").isdigit():
            return text
    raise ValueError("an IP address or a host name, without a port")


def parse_http_url(text: str) -> str:
    """Return an ``http`` or ``https`` address without a slash at its end."""
    form = "an address such as `https://search.example.com`, without user, query or fragment"
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(form) from None
    is_plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not (is_plain and has_port):
        raise ValueError(form)
    if not text.isprintable() or " " in text:
        raise ValueError(form)
    return text.rstrip("/")


def parse_http_urls(text: str) -> tuple[str, ...]:
    """Return the addresses of a comma-separated list, each without a path."""
    try:
        urls = tuple(parse_http_url(item) for item in _items(text, ","))
        if urls and not any(urlsplit(url).path for url in urls):
            return urls
    except ValueError:
        pass
    raise ValueError("a comma-separated list of addresses such as `http://vespa-1:8080`")


def parse_origins(text: str) -> tuple[str, ...]:
    """Return origins of a comma-separated list; ``*`` stands alone."""
    origins = _items(text, ",")
    if origins == ("*",):
        return origins
    for origin in origins:
        try:
            is_origin = urlsplit(parse_http_url(origin)).path == ""
        except ValueError:
            is_origin = False
        if not is_origin:
            raise ValueError(
                "`*`, or a comma-separated list of origins such as `https://app.example.com`"
            )
    return tuple(origin.rstrip("/").lower() for origin in origins)


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of a comma-separated list; an address is a network of one."""
    try:
        return tuple(ip_network(item) for item in _items(text, ","))
    except ValueError:
        raise ValueError(
            "a comma-separated list of IP addresses and networks such as `10.0.0.5, 172.16.0.0/12`"
        ) from None


def parse_folder(text: str) -> Path:
    """Return an absolute path."""
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ValueError("an absolute path")
    return path


def parse_folders(text: str) -> tuple[Path, ...]:
    """Return absolute paths of a colon-separated list."""
    if re.search(r",\s*/", text):
        raise ValueError("absolute paths with `:` between them, not commas")
    try:
        return tuple(dict.fromkeys(parse_folder(item) for item in _items(text, ":")))
    except ValueError:
        raise ValueError("absolute paths with `:` between them") from None


def parse_key(text: str) -> bytes:
    """Return a key of 32 bytes given as 64 hexadecimal digits or in base64."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise ValueError("32 bytes as 64 hexadecimal digits (`openssl rand -hex 32`) or in base64")
    return key


def derive_key(text: str) -> bytes:
    """Return a key of 32 bytes made of any text; only for development."""
    return hashlib.sha256(text.encode()).digest()


def _items(text: str, separator: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(separator) if item.strip())
