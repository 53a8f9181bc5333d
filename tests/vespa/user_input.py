"""Text that users type: the simple query syntax, and tokenising without any syntax.

Simple syntax knows ``-word``, ``+word``, ``"a phrase"`` and ``field:term``. Words that only signs part
(``a.b``) are a phrase in it. Parentheses, weights and ranges of numbers part words here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.vespa.analysis import words
from tests.vespa.items import (
    TARGET_HITS,
    All,
    AnyOf,
    Empty,
    Item,
    Near,
    Term,
    WeakAnd,
    Without,
)
from tests.vespa.model import Schema
from tests.vespa.query_errors import ILLEGAL_QUERY, QueryError, YqlError
from tests.vespa.searchable import fields_of
from tests.vespa.terms import TermMaker

COMPOSITES = ("and", "or", "phrase", "weakAnd", "near", "oNear")
TOKENIZATIONS = ("internal", "linguistics")
SYNTAXES = ("advanced", "json", "none", "programmatic", "simple", "web", "yql")
_TYPES = {
    "all": ("and", "internal", "simple"),
    "any": ("or", "internal", "simple"),
    "linguistics": ("weakAnd", "linguistics", "none"),
    "phrase": ("phrase", "internal", "none"),
    "tokenize": ("weakAnd", "internal", "none"),
    "weakAnd": ("weakAnd", "internal", "simple"),
}
_PART = re.compile(
    r'(?P<sign>[-+])?(?:(?P<field>[A-Za-z_][\w.\-]*):)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))'
)


@dataclass(frozen=True, slots=True)
class QueryType:
    """How a text is read: what joins its words, who splits it, and which signs mean something."""

    composite: str
    tokenization: str
    syntax: str

    def __post_init__(self) -> None:
        _one_of("composite", self.composite, COMPOSITES)
        _one_of("tokenization", self.tokenization, TOKENIZATIONS)
        _one_of("syntax", self.syntax, SYNTAXES)
        if self.tokenization == "linguistics" and self.syntax != "none":
            raise YqlError(
                f"query type [composite: {self.composite}, tokenization: {self.tokenization}, syntax: "
                f"{self.syntax}] is invalid: Linguistics tokenization can only be combined with syntax none"
            )
        if self.syntax not in ("none", "simple"):
            raise YqlError(f"The syntax '{self.syntax}' is not supported by this server")


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise YqlError(f"No query {what} '{value}'")


def query_type(
    grammar: str, composite: str | None, tokenization: str | None, syntax: str | None
) -> QueryType:
    """Find the type of a grammar, with the parts that are given put in.

    Raises:
        YqlError: there is no such grammar, or the parts do not fit together.
    """
    if grammar not in _TYPES:
        raise YqlError(f"No query type '{grammar}'")
    found = _TYPES[grammar]
    return QueryType(composite or found[0], tokenization or found[1], syntax or found[2])


@dataclass(slots=True)
class UserInput:
    """One text; *index* is where words without a field are looked for."""

    schema: Schema
    index: str
    kind: QueryType
    target_hits: int = TARGET_HITS
    is_total: bool = False
    distance: int = 2
    terms: TermMaker = field(default_factory=TermMaker)

    def item(self, text: str, *, may_be_empty: bool) -> Item:
        """Read *text*.

        Raises:
            YqlError: it holds no word.
            QueryError: it only says what is not wanted.
        """
        wanted, unwanted = self._parts(text)
        if not wanted and not unwanted:
            if may_be_empty:
                return Empty()
            raise YqlError(f"Parsing '{text}' only resulted in NullItem.")
        if not wanted:
            raise QueryError(ILLEGAL_QUERY, "Can not search for only negative items")
        item = self._joined(wanted)
        return Without(item, tuple(unwanted)) if unwanted else item

    def _parts(self, text: str) -> tuple[list[Item], list[Item]]:
        if self.kind.syntax == "none":
            return [self._term(self.index, word) for word in words(text)], []
        wanted: list[Item] = []
        unwanted: list[Item] = []
        for part in _PART.finditer(text):
            item = self._part(part)
            if item is not None:
                (unwanted if part["sign"] == "-" else wanted).append(item)
        return wanted, unwanted

    def _part(self, part: re.Match[str]) -> Item | None:
        index, text = self.index, part["phrase"] if part["phrase"] is not None else part["word"]
        if part["field"] is not None:
            if fields_of(self.schema, part["field"]) is not None:
                index = part["field"]
            else:
                text = f"{part['field']}:{text}"
        return self._term(index, text) if words(text) else None

    def _term(self, index: str, text: str) -> Item:
        fields = fields_of(self.schema, index) or ()
        return self.terms.term(fields, text)

    def _joined(self, children: list[Item]) -> Item:
        match self.kind.composite:
            case "weakAnd":
                return WeakAnd(tuple(children), self.target_hits, self.is_total)
            case "and":
                return All(tuple(children)) if len(children) > 1 else children[0]
            case "or":
                return AnyOf(tuple(children)) if len(children) > 1 else children[0]
            case composite:
                return self._in_a_row(children, composite)

    def _in_a_row(self, children: list[Item], composite: str) -> Item:
        fields = fields_of(self.schema, self.index) or ()
        names = tuple(each.name for each in fields)
        row = [word for each in children if isinstance(each, Term) for word in each.words]
        ranked = self.terms.is_ranked
        if composite == "phrase":
            return Term(names, tuple(row), ranked)
        texts = tuple(word for word in row if isinstance(word, str))
        return Near(names, texts, self.distance, composite == "oNear", ranked)
