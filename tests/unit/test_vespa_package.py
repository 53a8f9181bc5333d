"""The application package, and how it is put into one that is there."""

from __future__ import annotations

from datetime import date
from xml.etree import ElementTree

import pytest

from sercha.adapters.vespa.merge import merge
from sercha.adapters.vespa.package import Node, VectorField, make_package
from sercha.errors import Rejected
from tests.vespa.model import Application
from tests.vespa.package import build_application

VECTORS = [VectorField("a1b2c3d4", 384), VectorField("0f0f0f0f", 1024)]
NODES = [
    Node("cfg0", is_config=True),
    Node("cnt0", is_container=True),
    Node("cnt1", is_container=True),
    Node("data0", is_content=True),
    Node("data1", is_content=True),
    Node("data2", is_content=True),
]
FOREIGN = b"""<?xml version="1.0" encoding="UTF-8"?>
<!-- ours, "do not touch" -->
<services version='1.0'>
  <container id="query" version="1.0"><search/><document-api/><nodes><node hostalias="n"/></nodes></container>
  <content id="other" version="1.0"><min-redundancy>1</min-redundancy><documents><document type="book" mode="index"/></documents>
    <nodes><node hostalias="n" distribution-key="0"/></nodes></content>
  <content id="main" version="1.0"><min-redundancy>1</min-redundancy>
    %s
    <nodes><node hostalias="n" distribution-key="1"/></nodes></content>
</services>
"""


def build(files: dict[str, bytes]) -> Application:
    return build_application(files, session_id=2, today=date(2026, 1, 1))


@pytest.mark.parametrize("vectors", [[], VECTORS], ids=["text", "vectors"])
@pytest.mark.parametrize("nodes", [[], NODES], ids=["one host", "several"])
def test_a_package_is_one_that_is_accepted(vectors: list[VectorField], nodes: list[Node]) -> None:
    files = make_package(vectors, nodes, cluster="docs")

    built = build(files)

    assert set(built.schemas) == {"sercha_document", "sercha_position"}
    profiles = set(built.schemas["sercha_document"].rank_profiles)
    assert profiles == {"text", *(v.profile(m) for v in vectors for m in ("semantic", "hybrid"))}
    [cluster] = built.content
    assert cluster.id == "docs"
    assert len(cluster.groups) == (3 if nodes else 1), "each content host holds everything"
    assert cluster.redundancy == (3 if nodes else 1)


@pytest.mark.parametrize(
    "documents",
    [
        b'<documents><document type="film" mode="index"/></documents>',
        b"<documents/>",
        b'<documents garbage-collection="true" ></documents>',
        b'<documents\n  garbage-collection="true" />',
    ],
)
def test_types_are_added_where_they_belong_and_nothing_else_changes(documents: bytes) -> None:
    services = FOREIGN % documents
    existing = {"services.xml": services, "schemas/film.sd": b"film", "models/x.bin": b"\x00\xff"}

    merged = merge(existing, make_package(), "main")

    assert {path: merged[path] for path in existing if path != "services.xml"} == {
        "schemas/film.sd": b"film",
        "models/x.bin": b"\x00\xff",
    }
    assert "schemas/sercha_document.sd" in merged
    assert "hosts.xml" not in merged
    root = ElementTree.fromstring(merged["services.xml"])
    types = {
        content.get("id"): [each.get("type") for each in content.findall("documents/document")]
        for content in root.findall("content")
    }
    assert types["other"] == ["book"]
    assert types["main"][-2:] == ["sercha_document", "sercha_position"]
    assert len(types["main"]) == (3 if b"film" in documents else 2)
    kept = merged["services.xml"]
    before, after = services.split(documents)
    assert kept.startswith(before)
    assert kept.endswith(after)
    assert merge(merged, make_package(), "main") == merged, "and once is enough"


def test_a_cluster_that_is_not_there_is_named_with_those_that_are() -> None:
    existing = {"services.xml": FOREIGN % b"<documents/>"}

    with pytest.raises(Rejected, match="no content cluster 'sercha'; it has: main, other"):
        merge(existing, make_package(), "sercha")


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        ({"services.xml": b"<services>"}, "cannot be read"),
        ({"schemas/a.sd": b""}, "no services.xml"),
        ({"services.xml": FOREIGN % b""}, "no element documents"),
    ],
)
def test_an_application_that_cannot_be_extended_is_left_alone(
    existing: dict[str, bytes], message: str
) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        merge(existing, make_package(), "main")
    assert caught.value.error_code == "vespa-application"
