"""Strict parser of schema files: what is not known to it is refused, never skipped.

It knows document fields of primitive types, arrays and weighted sets of them and tensors; fieldsets; summary
classes; rank profiles (`schema_ranking`).
"""

from __future__ import annotations

import re
from typing import Any

from tests.vespa.model import (
    PRIMITIVES,
    ArrayOf,
    Field,
    Fieldset,
    FieldType,
    Hnsw,
    RankProfile,
    Schema,
    SummaryClass,
    SummaryField,
    TensorType,
    TensorTypeError,
    WeightedSetOf,
    parse_tensor_type,
)
from tests.vespa.schema_ranking import read_profile
from tests.vespa.schema_text import SchemaError, Statement, read_statements

DISTANCE_METRICS = frozenset(
    {"euclidean", "angular", "dotproduct", "prenormalized-angular", "hamming", "geodegrees"}
)
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_COLLECTION = re.compile(r"(array|weightedset)\s*<\s*(\w+)\s*>\Z")
_STEMMINGS = frozenset({"none", "best", "shortest", "multiple"})


def parse_schema(text: str) -> Schema:
    """Parse the text of a schema file.

    Raises:
        SchemaError: it is not understood, or not allowed.
    """
    statements = read_statements(text)
    if len(statements) != 1 or statements[0].words[0] not in ("schema", "search"):
        raise SchemaError("Expected exactly one 'schema'")
    root = statements[0]
    name = _named(root, 2)
    documents = [each for each in root.children() if each.words[0] == "document"]
    if len(documents) != 1 or documents[0].words != ["document", name]:
        raise root.error(f"Schema '{name}' must have one document, of the same name")
    fields = _unique(root, [_field(each) for each in documents[0].children()])
    fieldsets: list[Fieldset] = []
    summaries: dict[str, SummaryClass] = {}
    profiles: list[RankProfile] = []
    for each in root.children():
        match each.words[0]:
            case "document":
                pass
            case "fieldset":
                fieldsets.append(_fieldset(each, fields))
            case "document-summary":
                summary = _summary_class(each, fields, summaries)
                if summary.name in summaries:
                    raise each.error(f"Summary class '{summary.name}' is given twice")
                summaries[summary.name] = summary
            case "rank-profile":
                profiles.append(read_profile(each, fields))
            case "stemming" if each.value in _STEMMINGS:
                fields = {key: _stemmed(field, each.value) for key, field in fields.items()}
            case _:
                raise each.error(f"Encountered '{each.head}' in schema '{name}'")
    known = {profile.name for profile in profiles} | {"default", "unranked"}
    for profile in profiles:
        for parent in profile.inherits:
            if parent not in known or (parent == profile.name and parent != "default"):
                raise root.error(
                    f"rank-profile '{profile.name}' inherits '{parent}', but this is not found in schema '{name}'"
                )
    return Schema(name, fields, _unique(root, fieldsets), summaries, _unique(root, profiles))


def parse_field_type(text: str) -> FieldType:
    """Parse the type of a field.

    Raises:
        SchemaError: it is none, or none that is supported.
    """
    text = text.strip()
    if text in PRIMITIVES:
        return text
    if text.startswith("tensor"):
        try:
            return parse_tensor_type(text)
        except TensorTypeError as error:
            raise SchemaError(str(error)) from error
    match = _COLLECTION.match(text)
    if match and match[2] in PRIMITIVES:
        if match[1] == "array":
            return ArrayOf(match[2])
        if match[2] in ("string", "int", "long", "byte"):
            return WeightedSetOf(match[2])
    raise SchemaError(f"Unknown or unsupported field type '{text}'")


def _named(statement: Statement, length: int) -> str:
    words = statement.words
    if len(words) != length or not _NAME.match(words[1].replace("-", "_")):
        raise statement.error(f"Encountered '{statement.head}'")
    return words[1]


def _unique(root: Statement, items: list[Any]) -> dict[str, Any]:
    by_name = {each.name: each for each in items}
    if len(by_name) != len(items):
        names = [each.name for each in items]
        twice = next(each for each in names if names.count(each) > 1)
        raise root.error(f"Duplicate name '{twice}'")
    return by_name


def _stemmed(field: Field, stemming: str | None) -> Field:
    return _replaced(field, stemming=stemming) if field.stemming == "best" else field


def _replaced(field: Field, **changes: Any) -> Field:
    values = {name: getattr(field, name) for name in Field.__slots__}
    return Field(**(values | changes))


def _field(statement: Statement) -> Field:
    words = statement.words
    if words[0] != "field" or len(words) < 4 or words[2] != "type" or not _NAME.match(words[1]):
        raise statement.error(f"Encountered '{statement.head}' in a document")
    try:
        field_type = parse_field_type(" ".join(words[3:]))
    except SchemaError as error:
        raise statement.error(f"Field '{words[1]}': {error}") from error
    found: dict[str, Any] = {"indexing": frozenset[str]()}
    for each in statement.children():
        _field_setting(each, found)
    is_only_attribute = "attribute" in found["indexing"] and "index" not in found["indexing"]
    if (
        field_type not in ("string", ArrayOf("string"), WeightedSetOf("string"))
        or is_only_attribute
    ):
        if found.get("match") == "text":
            raise statement.error(f"Field '{words[1]}': match 'text' needs an index of text")
        found.setdefault("match", "word")
    if "index" in found["indexing"] and isinstance(field_type, TensorType):
        found.setdefault("hnsw", Hnsw())
    field = Field(words[1], field_type, **found)
    problem = _problem(field, found)
    if problem:
        raise statement.error(f"Field '{field.name}': {problem}")
    return field


def _field_setting(each: Statement, found: dict[str, Any]) -> None:
    match each.head, each.value:
        case "indexing", str():
            steps = [step.strip() for step in each.text().split("|")]
            if not set(steps) <= {"attribute", "index", "summary", "set_language"}:
                raise each.error(f"Indexing statement '{each.value}' is not supported")
            found["indexing"] = frozenset(steps)
        case "summary" | "bolding" as name, str(value):
            keys = {"dynamic": "is_dynamic", "on": "is_bold"}
            if (name, value) not in (("summary", "dynamic"), ("bolding", "on")):
                raise each.error(f"Encountered '{name}: {value}'")
            found[keys[value]] = True
        case "stemming", str(value) if value in _STEMMINGS:
            found["stemming"] = value
        case "normalizing", "none" as value:
            found["normalizing"] = value
        case "match" | "attribute" | "index" | "rank" as name, str(value):
            _SETTINGS[name](Statement(value, each.line), found)
        case "match" | "attribute" | "index" | "rank" as name, None:
            for child in each.children():
                _SETTINGS[name](child, found)
        case _:
            raise each.error(f"Encountered '{each.head}' in a field")


def _match_setting(each: Statement, found: dict[str, Any]) -> None:
    match each.head, each.value:
        case "text" | "word" | "exact" as mode, None:
            found["match"] = mode
        case "cased" | "uncased" as case, None:
            found["is_cased"] = case == "cased"
        case "max-length", str(value) if value.isdigit():
            found["max_length"] = int(value)
        case _:
            raise each.error(f"Encountered '{each.head}' in match")


def _attribute_setting(each: Statement, found: dict[str, Any]) -> None:
    match each.head, each.value:
        case "fast-search", None:
            found["is_fast_search"] = True
        case "distance-metric", str(value) if value in DISTANCE_METRICS:
            found["distance_metric"] = value
        case _:
            raise each.error(f"Encountered '{each.head}' in attribute")


def _index_setting(each: Statement, found: dict[str, Any]) -> None:
    match each.head, each.value:
        case "enable-bm25", None:
            found["is_bm25"] = True
        case "hnsw", None:
            settings: dict[str, int] = {}
            for child in each.block or ():
                name = child.head.replace("-", "_")
                if name not in Hnsw.__slots__ or not child.text().isdigit():
                    raise child.error(f"Encountered '{child.head}' in hnsw")
                settings[name] = int(child.text())
            found["hnsw"] = Hnsw(**settings)
        case _:
            raise each.error(f"Encountered '{each.head}' in index")


def _rank_setting(each: Statement, found: dict[str, Any]) -> None:
    if each.head not in ("filter", "normal") or each.value is not None:
        raise each.error(f"Encountered '{each.head}' in rank")
    found["is_filter"] = each.head == "filter"


_SETTINGS = {
    "match": _match_setting,
    "attribute": _attribute_setting,
    "index": _index_setting,
    "rank": _rank_setting,
}


def _problem(field: Field, given: dict[str, Any]) -> str | None:
    """What is not allowed about a field."""
    is_text = field.type in ("string", ArrayOf("string"), WeightedSetOf("string"))
    tensor = field.type if isinstance(field.type, TensorType) else None
    checks = {
        "an index needs a string or a tensor": field.is_index and not (is_text or tensor),
        "raw cannot be an attribute": field.type == "raw" and field.is_attribute,
        "enable-bm25 needs an index of text": field.is_bm25 and not (is_text and field.is_index),
        "fast-search needs an attribute": field.is_fast_search
        and (not field.is_attribute or (tensor is not None and not tensor.mapped)),
        "distance-metric needs an attribute tensor": "distance_metric" in given
        and not (tensor and field.is_attribute),
        "hnsw needs a tensor that is an attribute and an index": field.hnsw is not None
        and not (tensor and field.is_attribute and field.is_index),
        "summary dynamic and bolding need an index of text": (field.is_dynamic or field.is_bold)
        and not (is_text and field.is_index),
        "match and stemming need a string": not is_text
        and bool(given.keys() & {"is_cased", "stemming", "normalizing", "max_length"}),
        "set_language needs a string": "set_language" in field.indexing and field.type != "string",
        "rank: filter needs an attribute or an index": field.is_filter
        and not (field.is_attribute or field.is_index),
        "hnsw needs one indexed and at most one mapped dimension": tensor is not None
        and field.is_index
        and (len(tensor.indexed) != 1 or len(tensor.mapped) > 1),
    }
    return next((text for text, is_wrong in checks.items() if is_wrong), None)


def _fieldset(statement: Statement, fields: dict[str, Field]) -> Fieldset:
    name = _named(statement, 2)
    names: tuple[str, ...] = ()
    for each in statement.children():
        if each.head != "fields" or names:
            raise each.error(f"Encountered '{each.head}' in fieldset '{name}'")
        names = tuple(part.strip() for part in each.text().split(","))
    for each in names:
        if each not in fields:
            raise statement.error(f"Fieldset '{name}': field '{each}' does not exist")
        if not (fields[each].is_index or fields[each].is_attribute):
            raise statement.error(f"Fieldset '{name}': field '{each}' cannot be searched")
    if not names:
        raise statement.error(f"Fieldset '{name}' has no fields")
    return Fieldset(name, names)


def _summary_class(
    statement: Statement, fields: dict[str, Field], earlier: dict[str, SummaryClass]
) -> SummaryClass:
    words = statement.words
    inherits: tuple[str, ...] = ()
    if len(words) > 2 and words[2] == "inherits":
        inherits = tuple(part.strip() for part in " ".join(words[3:]).split(","))
    elif len(words) != 2:
        raise statement.error(f"Encountered '{statement.head}'")
    found: dict[str, SummaryField] = {}
    for parent in inherits:
        if parent not in earlier:
            raise statement.error(f"Summary class '{words[1]}' inherits '{parent}', not found")
        found |= {each.name: each for each in earlier[parent].fields}
    for each in statement.children():
        if each.words[0] == "summary":
            field = _summary_field(each, fields)
            found[field.name] = field
        elif each.head in ("from-disk", "omit-summary-features"):
            each.flag()
        else:
            raise each.error(f"Encountered '{each.head}' in document-summary '{words[1]}'")
    return SummaryClass(words[1], tuple(found.values()), inherits)


def _summary_field(statement: Statement, fields: dict[str, Field]) -> SummaryField:
    words = statement.words
    if len(words) < 2 or (len(words) > 2 and words[2] != "type"):
        raise statement.error(f"Encountered '{statement.head}'")
    name = source = words[1]
    is_dynamic = is_bold = False
    for each in statement.block or ():
        match each.head, each.value:
            case "source", str(value):
                source = value
            case "dynamic", None:
                is_dynamic = True
            case "bolding", "on":
                is_bold = True
            case _:
                raise each.error(f"Encountered '{each.head}' in summary '{name}'")
    if source == "documentid":
        return SummaryField(name, source)
    field = fields.get(source)
    if field is None:
        raise statement.error(f"Summary field '{name}': source field '{source}' does not exist")
    if not (field.is_summary or field.is_attribute):
        raise statement.error(
            f"Summary field '{name}': '{source}' is neither summary nor attribute"
        )
    if len(words) > 2 and parse_field_type(" ".join(words[3:])) != field.type:
        raise statement.error(f"Summary field '{name}' differs in type from '{source}'")
    if (is_dynamic or is_bold) and not field.is_index:
        raise statement.error(f"Summary field '{name}': dynamic needs an index of text")
    return SummaryField(name, source, is_dynamic or (field.is_dynamic and name == source), is_bold)
