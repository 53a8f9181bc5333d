"""What requests name of the application: document types, clusters, sets of fields."""

from __future__ import annotations

from tests.vespa.messages import Problem
from tests.vespa.model import Application, Schema


def schema_of(application: Application, name: str) -> Schema:
    """The schema of a document type that a content cluster holds.

    Raises:
        Problem: there is none.
    """
    if application.cluster_of(name) is None:
        raise Problem(400, f"Document type {name} does not exist")
    return application.schemas[name]


def check_cluster(application: Application, cluster: str | None) -> None:
    """Make sure that a content cluster exists, if one is named.

    Raises:
        Problem: it does not.
    """
    ids = [each.id for each in application.content]
    if cluster is not None and cluster not in ids:
        listed = "', '".join(ids)
        raise Problem(
            400, f"Your Vespa deployment has no content cluster '{cluster}', only '{listed}'"
        )


def field_set(schema: Schema, text: str, application: Application) -> frozenset[str]:
    """The names of the fields of *schema* that a ``fieldSet`` asks for.

    Raises:
        Problem: it is not understood, or names what does not exist.
    """
    match text:
        case "[document]" | "[all]":
            return frozenset(schema.fields)
        case "[id]" | "[docid]" | "[none]":
            return frozenset()
        case _:
            name, colon, rest = text.partition(":")
            names = [each.strip() for each in rest.split(",")]
            if not colon or name not in application.schemas:
                raise Problem(400, f"Illegal field set '{text}': unknown document type '{name}'")
            for each in names:
                if each not in application.schemas[name].fields and each != "[document]":
                    raise Problem(400, f"Illegal field set '{text}': no field '{each}' in '{name}'")
            if name != schema.name:
                return frozenset()
            return frozenset(schema.fields) if "[document]" in names else frozenset(names)
