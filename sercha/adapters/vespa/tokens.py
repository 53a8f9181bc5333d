"""Words as Vespa gets them: made by Sercha's own analysis, so written that no tokeniser of Vespa's changes them.

Vespa's linguistics differ by version, language and plug-ins; a field that holds `東`, `größe` or `wait_readable` is cut
there in ways that nobody here can foresee. So a token that is not plain ASCII letters and digits is spelled in
base 32, and what Vespa sees is never more than runs of ``[a-z0-9]`` with spaces between them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

_PLAIN = re.compile(r"[a-z0-9]+")
_SPELLED = "0u"
"""Begins each token that is spelled out, and no other."""


def spell(token: str) -> str:
    """Write one token; different ones are written differently."""
    if _PLAIN.fullmatch(token) and not token.startswith(_SPELLED):
        return token
    digits = base64.b32hexencode(token.encode("utf-8", "surrogatepass")).decode("ascii")
    return _SPELLED + digits.rstrip("=").lower()


def spell_all(tokens: Iterable[str]) -> str:
    """Write tokens side by side, as a field's text or as a phrase."""
    return " ".join(map(spell, tokens))
