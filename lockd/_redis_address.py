"""What a ``redis://`` or ``rediss://`` address says; messages never repeat what may be a password."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

PORT = 6379
FORM = "redis[s]://[[user]:password@]host[:port][/database][?option=value...]"

_NO = ("0", "f", "false", "n", "no", "off")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis server is and how to log in; as text, and in ``repr``, without the secrets."""

    host: str
    port: int = PORT
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.tls else ''}://{host}:{self.port}/{self.database}"

    def without_secrets(self, text: str) -> str:
        """Return *text* with the password blotted out, in case a server repeats it."""
        return text.replace(self.password, "***") if self.password else text


def parse_address(url: str, ssl_context: ssl.SSLContext | None = None) -> RedisAddress:
    """Read *url*, and the certificate files that it names. *ssl_context* replaces its options for TLS.

    Options: ``db`` (as the path), ``ssl_ca_certs`` (a file; then only these authorities are trusted), ``ssl_certfile``,
    ``ssl_keyfile``, ``ssl_check_hostname``, ``ssl_cert_reqs`` (``required`` or ``none``). Timeouts, retries and
    the number of connections are lockd's own affair.

    Raises:
        ValueError: it is no such address, or has an option that is not known, or a file cannot be read.
    """
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        database = int(options.pop("db", None) or parts.path.strip("/") or 0)
        port = parts.port or PORT
    except ValueError:  # its text may have part of a password that should have been quoted
        raise ValueError(f"the address cannot be read; its form is {FORM}") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or database < 0:
        raise ValueError(f"the address must be of the form {FORM}")
    return RedisAddress(
        host=unquote(parts.hostname),
        port=port,
        database=database,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(parts.scheme == "rediss", options, ssl_context),
    )


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
