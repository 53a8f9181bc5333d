"""Tells text from other bytes, and finds the charset of a text.

The order: a byte order mark; UTF-16 and UTF-32 without one, by where the zeros are; UTF-8 that is valid; a
charset that the text itself declares; the likeliest of the old charsets. Decoding never fails: what is no text is found out before.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

from charset_normalizer import from_bytes

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins in the same way
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"%PDF-",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a",
    b"\x28\xb5\x2f\xfd",
    b"\x7fELF",
    b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe",
    b"\0asm",
    b"SQLite format 3\0",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"OggS",
    b"ID3\x03",
    b"ID3\x04",
    b"fLaC",
    b"wOFF",
    b"wOF2",
)
_DECLARED = re.compile(rb"(?:coding[:=]|encoding=|charset=)[ \t]*[\"']?([A-Za-z0-9][-\w.]{1,30})")
_STATEFUL = re.compile(r"iso2022|hz|utf_7")
_NO_CHARSETS = frozenset(
    {"idna", "mbcs", "oem", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"}
)
_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
_PRINTABLE = bytes(range(32, 127))
_WESTERN_MARKS = frozenset("‘’“”„‚‹›«»–—…•€£©®°§¡¿´·")

_SAMPLE_BYTES = 16 * 1024
_HEAD_BYTES = 1024
_FEW_BYTES = 64
"""With fewer bytes above ASCII than this, statistics of languages guess at random."""


def is_binary(content: bytes) -> bool:
    """Whether *content* is surely no text: by its first bytes, or by control characters.

    Valid UTF-8 may hold many of them (a log with colours, a stray NUL); bytes in an unknown charset few.
    """
    if content.startswith(_MAGIC) or content[257:262] == b"ustar":
        return True
    if _mark(content) or _wide_charset(content):
        return False
    sample = _sample(content)
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if _decodes(content, "utf-8"):
        return controls > 4 and controls * 10 > len(sample) * 3
    return controls * (100 if b"\0" in sample else 20) > len(sample)


def decode(content: bytes) -> tuple[str, str]:
    """Decode *content* and name the charset; bytes that do not fit become U+FFFD."""
    mark = _mark(content)
    if mark is not None:
        return content[len(mark[0]) :].decode(mark[1], "replace"), mark[1]
    declared = _declared_charset(content)
    if content.isascii() and declared and _STATEFUL.match(declared):
        # The charsets that write everything in ASCII: only the declaration shows them.
        text = _try_decode(content, declared)
        if text is not None:
            return text, _plain_name(declared)
    for charset in (_wide_charset(content), "utf-8", declared):
        text = _try_decode(content, charset) if charset else None
        if text is not None and charset is not None:
            return text, _plain_name(charset)
    charset = _likely_charset(content)
    return content.decode(charset, "replace"), _plain_name(charset)


def _mark(content: bytes) -> tuple[bytes, str] | None:
    return next((mark for mark in _MARKS if content.startswith(mark[0])), None)


def _declared_charset(content: bytes) -> str | None:
    """Return the charset that the first lines name: Python, Emacs, XML and HTML do."""
    match = _DECLARED.search(content[:_HEAD_BYTES])
    if match is None:
        return None
    try:
        name = codecs.lookup(match[1].decode("ascii")).name.replace("-", "_")
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSETS else name


def _try_decode(content: bytes, charset: str) -> str | None:
    try:
        return content.decode(charset)
    except (LookupError, ValueError):
        # LookupError: codecs such as rot13 are none of bytes to text.
        return None


def _decodes(content: bytes, charset: str) -> bool:
    return _try_decode(content, charset) is not None


def _wide_charset(content: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 without a mark by where the zeros are."""
    sample = content[: _SAMPLE_BYTES // 4 * 4]
    if len(content) % 2 or b"\0" not in sample:
        return None
    zeros = [sample[offset::4].count(0) for offset in range(4)]
    quarter = len(sample) // 4
    if len(content) % 4 == 0 and quarter:
        if zeros[3] == quarter and zeros[2] > 0.9 * quarter and zeros[0] < 0.1 * quarter:
            return _if_readable(content, "utf-32-le")
        if zeros[0] == quarter and zeros[1] > 0.9 * quarter and zeros[3] < 0.1 * quarter:
            return _if_readable(content, "utf-32-be")
    even, odd = sample[::2], sample[1::2]
    if odd.count(0) > 20 * even.count(0) and _may_be_high_bytes(odd, content):
        return _if_readable(content, "utf-16-le")
    if even.count(0) > 20 * odd.count(0) and _may_be_high_bytes(even, content):
        return _if_readable(content, "utf-16-be")
    return None


def _may_be_high_bytes(half: bytes, content: bytes) -> bool:
    """Tell UTF-16 from a text in UTF-8 with a stray NUL.

    Content that is valid in both has low high bytes in UTF-16 (alphabets), and letters in UTF-8.
    """
    printable = len(half) - len(half.translate(None, _PRINTABLE))
    return printable * 10 < len(half) or not _decodes(content, "utf-8")


def _if_readable(content: bytes, charset: str) -> str | None:
    """Return *charset* when *content* is valid in it and reads like text."""
    if not _decodes(content, charset):
        return None
    sample = content[:_SAMPLE_BYTES].decode(charset, "ignore")
    odd = sum(
        char not in "\t\n\r\f\ufeff" and unicodedata.category(char) in ("Cc", "Cn", "Co")
        for char in sample
    )
    return charset if odd * 50 <= len(sample) else None


def _likely_charset(content: bytes) -> str:
    """Guess between the old charsets."""
    sample = _sample_lines(content)
    high = sum(byte > 127 for byte in sample)
    if high < _FEW_BYTES and _reads_western(sample):
        return "cp1252"
    best = from_bytes(sample).best()
    if best is not None and _decodes(content, best.encoding):
        return best.encoding
    return "cp1252" if _decodes(content, "cp1252") else "latin-1"


def _reads_western(sample: bytes) -> bool:
    """Whether *sample* in cp1252 has single accented letters within plain words, and usual punctuation."""
    text = _try_decode(sample, "cp1252")
    if text is None:
        return False
    accents = sum("À" <= char <= "ÿ" and char not in "×÷" for char in text)
    others = sum(char > "\x7f" for char in text) - accents
    marks = sum(char in _WESTERN_MARKS for char in text)
    letters = sum(char.isalpha() for char in text)
    return others == marks and accents * 3 <= letters


def _sample(content: bytes) -> bytes:
    """Take the beginning, the middle and the end."""
    if len(content) <= 3 * _SAMPLE_BYTES:
        return content
    middle = len(content) // 2
    return (
        content[:_SAMPLE_BYTES]
        + content[middle : middle + _SAMPLE_BYTES]
        + content[-_SAMPLE_BYTES:]
    )


def _sample_lines(content: bytes) -> bytes:
    """Take lines from where the first bytes above ASCII are; charsets with several bytes must stay whole."""
    if len(content) <= _SAMPLE_BYTES:
        return content
    match = re.search(rb"[\x80-\xff]", content)
    start = content.rfind(b"\n", 0, match.start()) + 1 if match else 0
    if match and match.start() - start > _SAMPLE_BYTES // 4:
        start = match.start()
    end = content.find(b"\n", start + _SAMPLE_BYTES, start + 2 * _SAMPLE_BYTES)
    return content[start : end if end > 0 else start + _SAMPLE_BYTES]


def _plain_name(charset: str) -> str:
    return charset.replace("_", "-")
