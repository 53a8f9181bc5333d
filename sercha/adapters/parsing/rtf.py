"""Rich text (RTF), by striprtf."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.domain.document import ExtractedText

_rtf_to_text: Callable[..., str] = import_module("striprtf.striprtf").rtf_to_text  # has no types

MIME_TYPE = "application/rtf"

_HEAD_CHARS = 20_000
_CODEPAGE = re.compile(rb"\\ansicpg(\d{3,5})")
_INFO = re.compile(r"\{\\(title|author)\s([^{}]{1,1000})\}")
_DATE = re.compile(r"\{\\(creatim|revtim)\\yr(\d{4})\\mo(\d\d?)\\dy(\d\d?)")
_KEYS = {"creatim": "created", "revtim": "modified"}


def parse(job: Job) -> ExtractedText:
    """Read a document."""
    charset = _charset(job.content)
    source = job.content.decode(charset, "replace")
    facts, builder = Facts(), TextBuilder(job.chars_max)
    head = source[:_HEAD_CHARS]
    for word, raw in _INFO.findall(head):
        value = _text(f"{{\\rtf1\\ansi {raw}}}", charset)
        if word == "title":
            facts.name(value)
        else:
            facts.note("author", value)
    for word, year, month, day in _DATE.findall(head):
        facts.note(_KEYS[word], f"{year}-{int(month):02}-{int(day):02}")
    with suppress(Full):
        builder.add(_text(source, charset).strip())
    return builder.finish(MIME_TYPE, facts, charset)


def _charset(content: bytes) -> str:
    match = _CODEPAGE.search(content[:_HEAD_CHARS])
    name = f"cp{match[1].decode()}" if match else "cp1252"
    try:
        return codecs.lookup(name).name.replace("_", "-")
    except LookupError:
        return "cp1252"


def _text(source: str, charset: str) -> str:
    text = _rtf_to_text(source, encoding=charset, errors="replace")
    # Characters beyond 16 bits come as two halves.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
