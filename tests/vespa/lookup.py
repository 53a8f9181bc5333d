"""Looks up the fields, parameters and literals that a YQL condition names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.vespa.annotations import Scope
from tests.vespa.model import Field, Schema
from tests.vespa.query_errors import YqlError
from tests.vespa.searchable import fields_of
from tests.vespa.terms import TermMaker
from tests.vespa.yql_tree import (
    And,
    Call,
    Comparison,
    Contains,
    FieldName,
    In,
    Literal,
    Map,
    Matches,
    Node,
    Not,
    Or,
    Parameter,
)

_OPERATORS: Mapping[type, str] = {
    FieldName: "READ_FIELD", Literal: "LITERAL", Parameter: "VARREF", Call: "CALL", Map: "MAP", And: "AND",
    Or: "OR", Not: "NOT", Comparison: "EQ", Contains: "CONTAINS", Matches: "MATCHES", In: "IN",
}  # fmt: skip


def operator_of(node: Node) -> str:
    """The server's name for a kind of node."""
    return _OPERATORS[type(node)]


class Lookup:
    """What one schema and one request say; *others* are the further schemas that the query goes to."""

    def __init__(
        self, schema: Schema, parameters: Mapping[str, str], others: Sequence[Schema] = ()
    ) -> None:
        self.schema = schema
        self.scope = Scope()
        self._others = others
        self._parameters = parameters

    def fields(self, node: Node) -> tuple[Field, ...]:
        """The fields behind a name; none when only another schema has them.

        Raises:
            YqlError: no schema has them, or they cannot be searched.
        """
        name = self.field_name(node)
        fields = fields_of(self.schema, name)
        if fields is not None:
            return fields
        if any(fields_of(other, name) is not None for other in self._others):
            return ()
        raise YqlError(f"Field '{name}' does not exist.")

    def field_name(self, node: Node) -> str:
        """The name that a node stands for."""
        if isinstance(node, FieldName):
            return node.name
        if isinstance(node, Literal):
            return str(node.value)
        raise YqlError(f"Expected READ_FIELD or PROPREF, got {operator_of(node)}.")

    def parameter(self, name: str) -> str:
        """The value of ``@name``.

        Raises:
            YqlError: the request does not have it.
        """
        value = self._parameters.get(name)
        if value is None:
            raise YqlError(f"Input '{name}' is not set")
        return value

    def text(self, node: Node) -> str:
        """The text of a literal or of a parameter."""
        if isinstance(node, Parameter):
            return self.parameter(node.name)
        if isinstance(node, Literal) and isinstance(node.value, str):
            return node.value
        if isinstance(node, Literal):
            raise YqlError(f"Expected a string, got {node.value}.")
        raise YqlError(f"Expected LITERAL or VARREF, got {operator_of(node)}.")

    def terms(self) -> TermMaker:
        """What makes terms with the annotations that hold here."""
        is_ranked = self.scope.get("ranked", True) and not self.scope.get("filter", False)
        normalizes_case = self.scope.get("normalizeCase", True)
        return TermMaker(is_ranked, self.scope.get("prefix", False), normalizes_case)

    def index_of(self, fields: tuple[Field, ...]) -> str:
        """The name under which *fields* are searched together."""
        names = tuple(each.name for each in fields)
        for fieldset in self.schema.fieldsets.values():
            if len(names) > 1 and fieldset.fields == names:
                return fieldset.name
        return names[0] if names else ""
