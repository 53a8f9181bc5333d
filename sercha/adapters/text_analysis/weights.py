"""What a match is worth, for the engines that order documents by Sercha's own arithmetic.

The score of a document is the sum, over the terms that it has, of the term's rarity times what each way in which the
document has it is worth. How much a word in the text is worth follows BM25's saturation with a fixed average length, in
`LEVELS` steps, so that it can be written down when the document is added.
"""

from __future__ import annotations

import math

LEVELS = 10
IMPACT_MAX = 2.2
SATURATION = 1.2
LENGTH_SHARE = 0.6
LENGTH_TYPICAL = 500.0
PHRASE_WORDS_COUNTED_MAX = 32
"""So many words of one phrase add to the score by how often they occur; all of them must match."""

TITLE = 2.5
TITLE_PARTS = 0.8
PATH = 0.5
PATH_PARTS = 0.2
PARTS = 0.4
FRAGMENT = 0.2
PHRASE = 1.0
"""A phrase in the text; its words add up to `IMPACT_MAX` by how often they occur."""


def level(times: int, length: int) -> int:
    """Return the level of a word that occurs *times* in a text of *length* words."""
    norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length / LENGTH_TYPICAL)
    return min(int(LEVELS * times / (times + norm)), LEVELS - 1)


def impact(level: int) -> float:
    """What a level stands for, in BM25's measure of one word (0 to `IMPACT_MAX`)."""
    return IMPACT_MAX * (level + 0.5) / LEVELS


def rarity(live: int, matching: int) -> float:
    """Return how much a term counts that *matching* of *live* documents have: BM25's inverse document frequency."""
    return math.log(1 + (live - matching + 0.5) / (matching + 0.5))
