"""The language that a text is written in, where the document itself declares none.

By the Compact Language Detector 3, a small network over groups of letters; the method is Botha et al., "Natural Language
Processing with Small Feed-Forward Networks", 2017.
"""

from __future__ import annotations

import re
from functools import cache

import gcld3

LANGUAGE = "language"
"""The key of a document's metadata."""
SAMPLE_CHARS = 300
"""Taken from the middle, where there is neither a head nor a licence. It costs about 0.2 ms, however long the text is."""
LETTERS_MIN = 60
"""Of less nothing is said; of Chinese, Japanese and Korean a quarter is enough."""

_PROBABILITY_MIN = 0.9
_CODE_SHARE_MAX = 0.06
_CODE = re.compile(r"[{}();=<>\\|#$@_]")
_IDEOGRAPHIC = frozenset({"zh", "ja", "ko"})
_CODES = {"iw": "he", "jw": "jv"}
"""What the detector names by codes that ISO 639-1 has withdrawn."""
_PROSE = frozenset(
    {"text/plain", "text/markdown", "text/x-rst", "text/asciidoc", "text/org", "text/html"}
)
_DATA = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/yaml",
        "application/toml",
        "application/graphql",
        "image/svg+xml",
    }
)


def find_language(text: str, mime_type: str) -> str | None:
    """Return the language of *text* as ISO 639-1; None when it is too short, code or data, or not clear."""
    is_text = mime_type.startswith("text/")
    if mime_type not in _PROSE if is_text else mime_type in _DATA:
        return None
    start = max(0, len(text) - SAMPLE_CHARS) // 2
    sample = text[start : start + SAMPLE_CHARS]
    letters = sum(map(str.isalpha, sample))
    if 4 * letters < LETTERS_MIN or len(_CODE.findall(sample)) > _CODE_SHARE_MAX * len(sample):
        return None
    found = _detector().FindLanguage(sample)
    language = _CODES.get(found.language, found.language)
    is_long = letters >= LETTERS_MIN or language in _IDEOGRAPHIC
    is_clear = found.is_reliable and found.probability >= _PROBABILITY_MIN
    return language if is_long and is_clear and len(language) == 2 else None


@cache
def _detector() -> gcld3.NNetLanguageIdentifier:
    return gcld3.NNetLanguageIdentifier(0, 4 * SAMPLE_CHARS)
