"""What an address of Redis says; messages never repeat what may be a password.

``redis://``, ``rediss://`` with TLS, and both with ``+sentinel``: several Sentinels that know where the master is.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PORT = 6379
SENTINEL_PORT = 26379
FORM = "redis[s]://[[user]:password@]host[:port][/database][?option=value...]"
SENTINEL_FORM = (
    "redis[s]+sentinel://[[user]:password@]host[:port],.../service[/database][?option...]"
)

_SENTINEL = "+sentinel"
_SCHEMES = ("redis", "rediss", f"redis{_SENTINEL}", f"rediss{_SENTINEL}")

_NO = ("0", "f", "false", "n", "no", "off")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis server is and how to log in; as text, and in ``repr``, without the secrets."""

    host: str
    """Behind Sentinels the name of the service that they watch."""
    port: int = PORT
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    """Whom to ask where the master is, in this order; empty: the address is the server's own."""
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        if self.sentinels:
            places = ",".join(_place(*each) for each in self.sentinels)
            return f"{scheme}{_SENTINEL}://{places}/{self.host}/{self.database}"
        return f"{scheme}://{_place(self.host, self.port)}/{self.database}"

    def without_secrets(self, text: str) -> str:
        """Return *text* with the passwords blotted out, in case a server repeats one."""
        for secret in (self.password, self.sentinel_password):
            text = text.replace(secret, "***") if secret else text
        return text


def parse_address(url: str, ssl_context: ssl.SSLContext | None = None) -> RedisAddress:
    """Read *url*, and the certificate files that it names. *ssl_context* replaces its options for TLS.

    Options: ``db`` (as the path), ``ssl_ca_certs`` (a file; then only these authorities are trusted), ``ssl_certfile``,
    ``ssl_keyfile``, ``ssl_check_hostname``, ``ssl_cert_reqs`` (``required`` or ``none``), and with Sentinels
    ``sentinel_password``; they are asked with the same TLS. Timeouts, retries and the number of connections are
    lockd's own affair.

    Raises:
        ValueError: it is no such address, or has an option that is not known, or a file cannot be read.
    """
    try:
        parts = urlsplit(_one_host(url))
        options = dict(parse_qsl(parts.query))
        is_watched = parts.scheme.endswith(_SENTINEL)
        host, number = _service(parts.path) if is_watched else (parts.hostname, parts.path)
        sentinels = _sentinels(parts) if is_watched else ()
        database = int(options.pop("db", None) or number.strip("/") or 0)
        port = PORT if is_watched else parts.port or PORT
    except ValueError:  # its text may have part of a password that should have been quoted
        raise ValueError(f"the address cannot be read; its form is {FORM}") from None
    if parts.scheme not in _SCHEMES or not host or database < 0:
        raise ValueError(f"the address must be of the form {SENTINEL_FORM if is_watched else FORM}")
    return RedisAddress(
        host=unquote(host),
        port=port,
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        sentinel_password=options.pop("sentinel_password", None) if is_watched else None,
        tls=_tls(parts.scheme.startswith("rediss"), options, ssl_context),
        sentinels=sentinels,
    )


def _service(path: str) -> tuple[str, str]:
    """Take ``/service/database`` apart."""
    name, _, number = path.removeprefix("/").partition("/")
    return name, number


def _one_host(url: str) -> str:
    """Hide the brackets in a list of Sentinels, which some releases of urlsplit take for a broken host."""
    is_list = f"{_SENTINEL}://" in url
    return url.replace("[", "%5B").replace("]", "%5D") if is_list else url


def _sentinels(parts: SplitResult) -> tuple[tuple[str, int], ...]:
    """Read the list of hosts, which urlsplit takes for one."""
    found: list[tuple[str, int]] = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{place.replace('%5B', '[').replace('%5D', ']')}")
        if not one.hostname:
            raise ValueError("a host is missing")
        found.append((unquote(one.hostname), one.port or SENTINEL_PORT))
    return tuple(found)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tls(
    is_wanted: bool, options: dict[str, str], given: ssl.SSLContext | None
) -> ssl.SSLContext | None:
    if given is not None and not is_wanted:
        raise ValueError("an SSL context goes with rediss://, not with redis://")
    if options and (given is not None or not is_wanted):
        raise ValueError(f"the address has an option without use: {min(options)}")
    if not is_wanted:
        return None
    return given or _context(options)


def _context(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.pop("ssl_ca_certs", None))
        if certificate := options.pop("ssl_certfile", None):
            context.load_cert_chain(certificate, options.pop("ssl_keyfile", None))
    except OSError as error:
        raise ValueError(f"ssl_ca_certs, ssl_certfile or ssl_keyfile: {error}") from None
    if options.pop("ssl_check_hostname", "yes").lower() in _NO:
        context.check_hostname = False
    need = options.pop("ssl_cert_reqs", "required")
    if need not in ("required", "none"):
        raise ValueError("ssl_cert_reqs must be required or none")
    if need == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options:
        raise ValueError(f"the address has an option that is not known: {min(options)}")
    return context
