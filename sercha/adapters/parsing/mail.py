"""Mails (EML), by the standard library: the headers that people read, all texts, and the names of attachments."""

from __future__ import annotations

from contextlib import suppress
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from typing import Any, cast

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.charset import decode
from sercha.adapters.parsing.html import add_page
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

MIME_TYPE = "message/rfc822"
PARTS_MAX = 1_000
DEPTH_MAX = 30

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_MALFORMED = (ValueError, LookupError, AttributeError, TypeError, IndexError)
"""What the library raises on headers and bodies that are malformed."""


def parse(job: Job) -> ExtractedText:
    """Read a mail.

    Raises:
        ItemFailed: ``too-deep``: mails within mails.
    """
    message = BytesParser(EmailMessage, policy=policy.default).parsebytes(job.content)
    facts, builder = Facts(), TextBuilder(job.chars_max)
    facts.name(_header(message, "Subject"))
    facts.note("author", _header(message, "From"))
    with suppress(*_MALFORMED):
        facts.note("created", parsedate_to_datetime(_header(message, "Date")))
    with suppress(Full):
        _add(message, builder, depth=0, left=[PARTS_MAX])
    return builder.finish(MIME_TYPE, facts)


def _add(message: EmailMessage, builder: TextBuilder, *, depth: int, left: list[int]) -> None:
    """Append one mail, with the mails that are attached to it."""
    if depth > DEPTH_MAX:
        raise ItemFailed(f"Its parts are nested over {DEPTH_MAX} deep.", code="too-deep")
    builder.break_paragraph()
    for name in _SHOWN:
        value = _header(message, name)
        if value:
            builder.line(f"{name}: {value}")
    builder.break_paragraph()
    _add_part(message, builder, depth=depth, left=left)


def _add_part(part: EmailMessage, builder: TextBuilder, *, depth: int, left: list[int]) -> None:
    """Append a part; of several alternatives only the plain text is read, where there is one."""
    if depth > DEPTH_MAX:
        raise ItemFailed(f"Its parts are nested over {DEPTH_MAX} deep.", code="too-deep")
    left[0] -= 1
    if left[0] < 0:
        builder.cut(f"{PARTS_MAX} parts")
    kind = part.get_content_type()
    below = _below(part)
    if kind == "message/rfc822" and below:
        _add(below[0], builder, depth=depth + 1, left=left)
    elif below:
        if kind == "multipart/alternative":
            below = [each for each in below if each.get_content_type() == "text/plain"] or below
        for each in below:
            _add_part(each, builder, depth=depth + 1, left=left)
    elif part.get_content_disposition() == "attachment" or part.get_content_maintype() != "text":
        with suppress(*_MALFORMED):
            builder.line(f"Attachment: {part.get_filename() or kind}")
    else:
        _add_text(part, builder, is_html=kind == "text/html")


def _add_text(part: EmailMessage, builder: TextBuilder, *, is_html: bool) -> None:
    text = _body(part)
    builder.break_paragraph()
    if is_html:
        add_page(text, builder, Facts(), has_boilerplate=False)
    else:
        builder.paragraph(text)


def _body(part: EmailMessage) -> str:
    """Decode a text; one whose charset is wrong is read as a file would be."""
    content = b""
    with suppress(*_MALFORMED):
        payload: Any = part.get_payload(decode=True)
        content = bytes(payload or b"")
        return content.decode(part.get_content_charset() or "ascii")
    return decode(content)[0]


def _below(part: EmailMessage) -> list[EmailMessage]:
    """Return the parts that a part is made of."""
    payload: object = part.get_payload()
    if not isinstance(payload, list):
        return []
    found = cast("list[object]", payload)
    return [cast("EmailMessage", each) for each in found if isinstance(each, EmailMessage)]


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except _MALFORMED:
        return ""
