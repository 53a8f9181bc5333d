"""Parser of YQL: the grammar of Vespa 8, strictly; what it does not have is refused.

``and`` binds tighter than ``or``. An annotation ``{...}`` stands at the start of an expression (a whole
``where``, an argument, the inside of parentheses) and holds for all of it. ``from`` takes one name;
several need ``from sources a, b``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from tests.vespa.yql_lexer import (
    KEYWORDS_AS_NAMES,
    Token,
    YqlSyntaxError,
    join_surrogates,
    place,
    tokenize,
)
from tests.vespa.yql_tree import (
    And,
    Annotations,
    Call,
    Comparison,
    Contains,
    FieldName,
    GroupingText,
    In,
    Literal,
    Map,
    Matches,
    Node,
    Not,
    Or,
    Order,
    Parameter,
    Statement,
)

DEPTH_MAX = 50
"""Parentheses within parentheses; the real server fails on its stack, much later."""
COMPARISONS = ("<=", ">=", "<", ">", "=")
REFUSED_OPERATORS = ("like", "not", "is")


def parse_yql(text: str) -> Statement:
    """Parse a whole statement.

    Raises:
        YqlSyntaxError: *text* is not in the grammar.
    """
    return _Parser(text).statement()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._at = 0
        self._depth = 0

    def statement(self) -> Statement:
        self._keyword("select")
        fields = self._fields()
        self._keyword("from")
        sources = self._sources()
        self._keyword("where")
        where = self._expression()
        order = self._order_by()
        limit = self._number_after("limit")
        offset = self._number_after("offset")
        timeout = self._number_after("timeout")
        groupings: list[GroupingText] = []
        while self._takes("|"):
            groupings.append(self._grouping())
        self._takes(";")
        if self._token.kind != "end":
            raise self._unexpected("<EOF>")
        return Statement(fields, sources, where, order, limit, offset, timeout, tuple(groupings))

    # What stands around the condition

    def _fields(self) -> tuple[str, ...]:
        if self._takes("*"):
            return ()
        names = [self._dotted_name()]
        while self._takes(","):
            names.append(self._dotted_name())
        return tuple(names)

    def _sources(self) -> tuple[str, ...]:
        if not self._takes_keyword("sources"):
            return (self._dotted_name(),)
        if self._takes("*"):
            return ()
        names = [self._dotted_name()]
        while self._takes(","):
            names.append(self._dotted_name())
        return tuple(names)

    def _order_by(self) -> tuple[Order, ...]:
        if not self._takes_keyword("order"):
            return ()
        self._keyword("by")
        orders = [self._order()]
        while self._takes(","):
            orders.append(self._order())
        return tuple(orders)

    def _order(self) -> Order:
        is_string = self._token.kind == "string"
        name = str(self._next().value) if is_string else self._dotted_name()
        if self._takes_keyword("desc"):
            return Order(name, is_descending=True)
        self._takes_keyword("asc")
        return Order(name, is_descending=False)

    def _number_after(self, keyword: str) -> int | Parameter | None:
        if not self._takes_keyword(keyword):
            return None
        if self._token.kind == "integer":
            return int(self._next().value)
        if self._takes("@"):
            return Parameter(self._name())
        raise self._unexpected("{INT, '@'}")

    def _grouping(self) -> GroupingText:
        continuations: tuple[str | Parameter, ...] = ()
        if self._token.text in ("{", "["):
            annotations = self._annotation()
            found = annotations.get("continuations", [])
            if set(annotations) - {"continuations"} or not isinstance(found, list):
                raise self._unexpected("continuations")
            continuations = tuple(
                each if isinstance(each, Parameter) else str(each)
                for each in cast("list[object]", found)
            )
        if self._token.kind != "grouping":
            raise self._unexpected("VESPA_GROUPING")
        return GroupingText(self._next().text, continuations)

    # The condition

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise YqlSyntaxError(f"query:{place(self._text, self._token.offset)} nested too deeply")
        starts = self._token.text == "{" or (self._token.text == "[" and self._peek().text == "{")
        annotations = self._annotation_or_map() if starts else None
        if isinstance(annotations, Map):
            node: Node = annotations
        else:
            node = self._or()
            if annotations:
                node = replace(node, annotations={**node.annotations, **annotations})
        self._depth -= 1
        return node

    def _or(self) -> Node:
        children = [self._and()]
        while self._takes_keyword("or"):
            children.append(self._and())
        return children[0] if len(children) == 1 else Or(tuple(children))

    def _and(self) -> Node:
        children = [self._equality()]
        while self._takes_keyword("and"):
            children.append(self._equality())
        return children[0] if len(children) == 1 else And(tuple(children))

    def _equality(self) -> Node:
        if self._takes("!"):
            return Not(self._primary())
        left = self._primary()
        token = self._token
        if token.kind == "symbol" and token.text in COMPARISONS:
            self._next()
            return Comparison(token.text, left, self._primary())
        if self._takes_keyword("contains"):
            return Contains(left, self._primary())
        if self._takes_keyword("matches"):
            return Matches(left, self._primary())
        if self._takes_keyword("in"):
            return In(left, self._values())
        if token.kind == "keyword" and token.value in REFUSED_OPERATORS:
            raise self._unexpected("an operator this server has")
        return left

    def _values(self) -> tuple[Literal | Parameter, ...]:
        self._symbol("(")
        values = [self._literal_or_parameter()]
        while self._takes(","):
            values.append(self._literal_or_parameter())
        self._symbol(")")
        return tuple(values)

    def _literal_or_parameter(self) -> Literal | Parameter:
        if self._takes("@"):
            return Parameter(self._name())
        literal = self._literal()
        if literal is None:
            raise self._unexpected("{TRUE, FALSE, '@', LONG_INT, INT, FLOAT, STRING}")
        return literal

    def _primary(self) -> Node:
        if self._takes("("):
            node = self._expression()
            self._symbol(")")
            return node
        if self._takes("@"):
            return Parameter(self._name())
        if self._token.text == "{":
            return Map(self._map())
        literal = self._literal()
        if literal is not None:
            return literal
        if self._takes("-"):
            literal = self._literal()
            if literal is None or isinstance(literal.value, str | bool):
                raise self._unexpected("{LONG_INT, INT, FLOAT}")
            return Literal(-literal.value)
        name = self._dotted_name()
        if not self._takes("("):
            return FieldName(name)
        arguments: list[Node] = []
        if not self._takes(")"):
            arguments.append(self._expression())
            while self._takes(","):
                arguments.append(self._expression())
            self._symbol(")")
        return Call(name, tuple(arguments))

    def _literal(self) -> Literal | None:
        token = self._token
        if token.kind == "string":
            self._next()
            return Literal(join_surrogates(str(token.value)))
        if token.kind in ("integer", "float"):
            self._next()
            return Literal(token.value)
        if token.kind == "keyword" and token.value in ("true", "false"):
            self._next()
            return Literal(token.value == "true")
        return None

    # Annotations

    def _annotation_or_map(self) -> Annotations | Map:
        """A map that ends its expression is an argument, not an annotation."""
        annotations = self._annotation()
        if self._token.text in (")", ","):
            return Map(annotations)
        return annotations

    def _annotation(self) -> Annotations:
        if not self._takes("["):
            return self._map()
        entries = self._map()
        self._symbol("]")
        return entries

    def _map(self) -> Annotations:
        self._symbol("{")
        entries: dict[str, object] = {}
        while not self._takes("}"):
            if entries:
                self._symbol(",")
            is_string = self._token.kind == "string"
            key = str(self._next().value) if is_string else self._dotted_name()
            self._symbol(":")
            entries[key] = self._constant()
        return entries

    def _constant(self) -> object:
        if self._token.text == "{":
            return self._map()
        if self._takes("@"):
            return Parameter(self._name())
        if self._takes("["):
            values: list[object] = []
            while not self._takes("]"):
                if values:
                    self._symbol(",")
                values.append(self._constant())
            return values
        literal = self._literal()
        if literal is None:
            raise self._unexpected("a constant")
        return literal.value

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _peek(self) -> Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._token
        self._at += 1
        return token

    def _takes(self, symbol: str) -> bool:
        if self._token.kind == "symbol" and self._token.text == symbol:
            self._at += 1
            return True
        return False

    def _takes_keyword(self, word: str) -> bool:
        if self._token.kind == "keyword" and self._token.value == word:
            self._at += 1
            return True
        return False

    def _symbol(self, symbol: str) -> None:
        if not self._takes(symbol):
            raise self._unexpected(f"'{symbol}'")

    def _keyword(self, word: str) -> None:
        if not self._takes_keyword(word):
            raise self._unexpected(f"'{word}'")

    def _name(self) -> str:
        token = self._token
        is_name = token.kind == "name"
        if is_name or (token.kind == "keyword" and token.value in KEYWORDS_AS_NAMES):
            self._at += 1
            return token.text
        raise self._unexpected("a name")

    def _dotted_name(self) -> str:
        parts = [self._name()]
        while self._takes("."):
            parts.append(self._name())
        return ".".join(parts)

    def _unexpected(self, wanted: str) -> YqlSyntaxError:
        where = place(self._text, self._token.offset)
        return YqlSyntaxError(
            f"query:{where} mismatched input '{self._token.text}' expecting {wanted}"
        )
