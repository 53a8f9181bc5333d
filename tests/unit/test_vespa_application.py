"""What an application's files say about its clusters."""

from __future__ import annotations

import pytest

from sercha.adapters.vespa.application import read_application
from sercha.adapters.vespa.merge import merge
from sercha.adapters.vespa.package import Node, make_package
from sercha.errors import Rejected
from sercha.services.ports.vespa_admin import ContainerCluster, ContentCluster, VespaHost

FOREIGN = {
    "services.xml": b"""<?xml version="1.0" encoding="utf-8" ?>
<services version="1.0">
  <admin version="2.0"><adminserver hostalias="one"/></admin>
  <container id="feed" version="1.0">
    <document-api/>
    <http><server id="main" port="9000"/></http>
    <nodes><node hostalias="one"/><node hostalias="two"/></nodes>
  </container>
  <container id="query" version="1.0"><search/><nodes of="music"/></container>
  <content id="music" version="1.0">
    <min-redundancy>2</min-redundancy>
    <documents><document type="song" mode="index"/></documents>
    <group distribution-key="0" name="all">
      <distribution partitions="1|*"/>
      <group distribution-key="1" name="a"><node distribution-key="0" hostalias="one"/></group>
      <group distribution-key="2" name="b"><node distribution-key="1" hostalias="two"/></group>
    </group>
  </content>
</services>""",
    "hosts.xml": b"""<hosts>
  <host name="one.example.org"><alias>one</alias></host>
  <host name="two.example.org"><alias> two </alias><alias>spare</alias></host>
</hosts>""",
    "schemas/song.sd": b"schema song { document song { } }",
    "schemas/song/text.profile": b"",
    "README.md": b"",
}


def test_clusters_of_a_foreign_application_are_told() -> None:
    application = read_application(FOREIGN)

    assert application.containers == (
        ContainerCluster("feed", ("one", "two"), 9000, has_feed=True, has_query=False),
        ContainerCluster("query", (), 8080, has_feed=False, has_query=True),
    )
    assert application.contents == (ContentCluster("music", ("one", "two"), ("song",), 2),)
    assert application.hosts == (
        VespaHost("one", "one.example.org"),
        VespaHost("two", "two.example.org"),
        VespaHost("spare", "two.example.org"),
    )
    assert application.schemas == ("song",)
    assert application.our_schema is None
    assert "min-redundancy" in application.services_xml


def test_our_schema_is_told_by_its_content() -> None:
    ours = make_package(cluster="music")
    merged = read_application(merge(FOREIGN, ours, "music"))
    changed = {**ours, "schemas/sercha_document.sd": b"schema sercha_document { }"}

    assert merged.schemas == ("sercha_document", "sercha_position", "song")
    assert merged.our_schema is not None
    assert merged.our_schema == read_application(ours).our_schema
    assert merged.our_schema != read_application(changed).our_schema


def test_our_own_package_is_read_with_its_hosts() -> None:
    nodes = [Node("vespa-1", is_config=True, is_container=True), Node("vespa-2", is_content=True)]
    application = read_application(make_package(nodes=nodes, cluster="sercha"))

    assert {host.hostname for host in application.hosts} == {"vespa-1", "vespa-2"}
    [container], [content] = application.containers, application.contents
    assert len(container.nodes) == len(content.nodes) == 1
    assert set(container.nodes) != set(content.nodes)


def test_a_lone_container_needs_no_services_around_it() -> None:
    files = {"services.xml": b'<container id="c" version="1.0"><search/></container>'}

    [container] = read_application(files).containers

    assert (container.id, container.has_query, container.has_feed) == ("c", True, False)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"services.xml": b"<services>"},
        {"services.xml": b"<services/>", "hosts.xml": b"no XML"},
    ],
    ids=["none", "cut off", "hosts"],
)
def test_files_that_cannot_be_read_are_named(files: dict[str, bytes]) -> None:
    with pytest.raises(Rejected, match=r"services\.xml|hosts\.xml") as refused:
        read_application(files)
    assert refused.value.error_code == "vespa-application"
