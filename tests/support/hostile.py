"""Search texts that try to be more than text."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

PIECES = [
    '"', "'", "\\", "\\\\", '\\"', "//", "#", "/*", "*/", "(", ")", "{", "}", "[", "]", ";", ",", "@", "@sercha_readers",
    "@sercha_0", " or ", " and ", " not ", "!", "true", "false", "or true //", '" or true //', 'x\\" or true //',
    "readers", "readers:", "readers contains ", "deleted = 1", "in ('a','b')", "generation", "userQuery()",
    "userInput(@text)", "nearestNeighbor(a, b)", "select * from sources * where true", "| all(group(readers))",
    "limit 400", "{targetHits:1}", "rank(", "weakAnd(", "phrase(", "\x00", "\n", "\t", "\u202e", "\ufeff", "\ud800", "𝕏",
    "ﬁ", "東京", "größe", "й", "%", "%27", "&yql=", "?", "=", "<", ">", "$", "`", "~", "^", "*", "a*", "+", "-", "--", "+-",
    "title:secret", "id:g1:sercha_document::1", "document", "1", "0u", "0u64", "user:ann", "team", "secret", "word",
]  # fmt: skip
"""Of YQL, of selections, of the query languages of engines, of JSON and addresses, and odd characters."""


def hostile_texts(random: Random) -> Iterator[str]:
    """Give such texts for ever; some are no query at all."""
    while True:
        pieces = random.choices(PIECES, k=random.randint(1, 12))
        yield random.choice(["", " "]).join(pieces)
