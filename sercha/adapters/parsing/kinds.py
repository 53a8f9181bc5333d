"""Which parser a file needs, by its first bytes and only then by its name.

A wrong suffix does not matter where the format shows itself in the content. Everything that is none of these
kinds is text, or nothing that is read.
"""

from __future__ import annotations

import codecs
import re
from enum import StrEnum

from sercha.adapters.parsing.charset import is_binary
from sercha.adapters.parsing.mime import PLAIN_TEXT, text_type

LINE_BYTES_MAX = 4_000
"""JSON with a longer line was not laid out for people."""

_HEAD_BYTES = 2_048
_TAIL_BYTES = 2_048
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_WIDE_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
_HEADER_LINE = re.compile(r"[!-9;-~]{1,70}:[ \t]?|[ \t]+\S|From ")
_MAIL_HEADER = re.compile(
    r"^(from|to|subject|date|message-id|received|return-path|mime-version|delivered-to):",
    re.IGNORECASE | re.MULTILINE,
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


class Kind(StrEnum):
    """A family of formats with a parser of its own."""

    PDF = "pdf"
    PACKAGE = "package"
    """A ZIP: what it holds says which format it is."""
    RTF = "rtf"
    HTML = "html"
    MAIL = "mail"
    NOTEBOOK = "notebook"
    JSON = "json"
    TABLE = "table"


def find_kind(path: str, content: bytes) -> Kind | None:
    """Return the kind of a file, None for text and for what is nothing that we read."""
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.PACKAGE
    if _is_pdf(content):
        return Kind.PDF
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:5] == b"{\\rtf":
        return Kind.RTF
    kind = _text_kind(path, content)
    return kind if kind is not None and not is_binary(content) else None


def is_encrypted_package(content: bytes) -> bool:
    """Whether *content* is an office document behind a password: a ZIP within the older container."""
    return content.startswith(_OLE) and _ENCRYPTED_PACKAGE in content


def _is_pdf(content: bytes) -> bool:
    """Whether it is a PDF; some have other bytes before the mark, which a text may mention too."""
    at = content.find(b"%PDF-", 0, 1_024)
    if at <= 0:
        return at == 0
    return not content[:at].strip() or (
        b"startxref" in content[-_TAIL_BYTES:] and not content.isascii()
    )


def _text_kind(path: str, content: bytes) -> Kind | None:
    mime_type = text_type(path, content[:200])
    head = _head(content)
    if mime_type in _HTML_TYPES and "<" in head:
        return Kind.HTML
    if mime_type == PLAIN_TEXT and _HTML.match(head):
        return Kind.HTML
    if mime_type in ("message/rfc822", PLAIN_TEXT) and _is_mail(head, mime_type != PLAIN_TEXT):
        return Kind.MAIL
    if mime_type in ("text/csv", "text/tab-separated-values"):
        return Kind.TABLE
    return _json_kind(mime_type, head, content)


def _json_kind(mime_type: str, head: str, content: bytes) -> Kind | None:
    """Find notebooks, and JSON that does not show its words as it is: escaped, or in one endless line."""
    if mime_type not in ("application/json", "application/x-ipynb+json", PLAIN_TEXT):
        return None
    if not head.lstrip().startswith("{" if mime_type == PLAIN_TEXT else ("{", "[")):
        return None
    if b'"nbformat"' in content and b'"cells"' in content:
        return Kind.NOTEBOOK
    if mime_type == "application/json" and (b"\\u" in content or _has_long_line(content)):
        return Kind.JSON
    return None


def _has_long_line(content: bytes) -> bool:
    return any(len(line) > LINE_BYTES_MAX for line in content.split(b"\n"))


def _is_mail(head: str, is_named_so: bool) -> bool:
    """Whether the first lines are headers of a mail; a text that is not named as one needs more of them."""
    block = re.split(r"\r?\n\r?\n", head, maxsplit=1)[0]
    known = {name.lower() for name in _MAIL_HEADER.findall(block)}
    if is_named_so:
        return bool(known)
    is_block = all(_HEADER_LINE.match(line) for line in block.splitlines())
    return is_block and len(known) >= 3 and bool(known & {"message-id", "received", "mime-version"})


def _head(content: bytes) -> str:
    for mark, charset in _WIDE_MARKS:
        if content.startswith(mark):
            return content[len(mark) : _HEAD_BYTES].decode(charset, "ignore")
    return content[:_HEAD_BYTES].removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
