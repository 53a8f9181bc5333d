"""The fields of hits: summary classes, snippets, features."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, cast

from tests.vespa.items import Equivalent, Item, Near, Term, children_of
from tests.vespa.model import Schema, SummaryClass, SummaryField, Tensor
from tests.vespa.rank_tensors import RankValue
from tests.vespa.search import Found
from tests.vespa.teasers import highlight, teaser, without_marks
from tests.vespa.tensors import render_tensor
from tests.vespa.values import render_value


def summary_class(schema: Schema, name: str) -> SummaryClass | None:
    """The summary class *name*, or None; ``default`` has the document id and all summary fields."""
    if name in schema.summaries:
        return schema.summaries[name]
    if name != "default":
        return None
    fields = [
        SummaryField(field.name, field.name, field.is_dynamic, field.is_bold)
        for field in schema.fields.values()
        if field.is_summary
    ]
    return SummaryClass("default", (SummaryField("documentid", "documentid"), *fields))


def attribute_summary(schema: Schema, names: Collection[str]) -> SummaryClass | None:
    """A summary of the attributes *names*; None when one of them is none."""
    attributes = {field.name for field in schema.fields.values() if field.is_attribute}
    if not attributes.issuperset(names):
        return None
    return SummaryClass("attributes", tuple(SummaryField(name, name) for name in names))


def summary_fields(
    found: Found, summary: SummaryClass, number: int, tensors: str, *, is_bold: bool
) -> dict[str, Any]:
    """The fields of one hit; those without a value are left out."""
    fields: dict[str, Any] = {"sddocname": found.target.schema.name}
    for each in summary.fields:
        if each.source == "documentid":
            fields[each.name] = str(found.index.document(number).id)
            continue
        value = found.index.value(number, each.source)
        if value is None or value in ("", [], {}):
            continue
        if each.is_dynamic or each.is_bold:
            words = query_words(found.item, each.source)
            fields[each.name] = _snippet(value, each, words, is_bold=is_bold)
        else:
            fields[each.name] = render_value(value, tensors)
    return fields


def feature_fields(found: Found, number: int, tensors: str) -> dict[str, Any]:
    """The match and summary features that the profile asks for."""
    fields: dict[str, Any] = {}
    for name, texts in (
        ("matchfeatures", found.profile.match_features),
        ("summaryfeatures", found.profile.summary_features),
    ):
        if texts:
            values = found.ranking.features(texts, number)
            fields[name] = {text: _feature(value, tensors) for text, value in values.items()}
    return fields


def _feature(value: RankValue, tensors: str) -> Any:
    return render_tensor(value, tensors) if isinstance(value, Tensor) else value


def _snippet(value: Any, summary: SummaryField, words: Collection[str], *, is_bold: bool) -> Any:
    """A snippet of a text, or of each element of an array; a weighted set stays as it is."""
    if isinstance(value, str):
        text = teaser(value, words) if summary.is_dynamic else highlight(value, words)
        return text if is_bold else without_marks(text)
    found: Any = value
    if isinstance(value, list):
        texts = cast("list[str]", value)
        found = [_snippet(each, summary, words, is_bold=is_bold) for each in texts]
    return found


def query_words(item: Item, field: str) -> frozenset[str]:
    """The words of a query that are looked for in *field*."""
    return frozenset(word for word in _words(item, field) if isinstance(word, str))


def _words(item: Item, field: str) -> Iterator[Any]:
    if isinstance(item, Term | Near):
        if field in item.fields:
            yield from item.words
    elif isinstance(item, Equivalent):
        for term in item.terms:
            yield from _words(term, field)
    else:
        for child in children_of(item):
            yield from _words(child, field)
