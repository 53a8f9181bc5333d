"""What `sercha search` asks the API for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.peer import Answer, Peer, running_peer
from tests.unit.test_cli_exits import Cli, assert_refused


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as peer:
        yield peer


@pytest.fixture
def cli(tmp_path: Path, peer: Peer):
    home = Cli(tmp_path)
    return lambda *arguments: home(
        *arguments, SERCHA_URL=peer.url, SERCHA_TOKEN="t", TZ="Europe/Berlin"
    )


def noted(peer: Peer) -> list[dict[str, Any]]:
    """Answer searches with nothing found, and write down what they ask for."""
    bodies: list[dict[str, Any]] = []

    def search(_: str, body: dict[str, Any]) -> Answer:
        bodies.append(body)
        return 200, {"results": [], "total_count": 0, "took": 1}

    peer.on["POST /search"] = search
    return bodies


def test_filters_are_asked_for_and_a_date_is_midnight_here(cli: Any, peer: Peer):
    bodies = noted(peer)
    types = ["--type", "text/*", "--type", "application/pdf"]
    dates = ["--from", "2026-07-01", "--before", "2026-11-01T09:30:00.5-05:00"]

    done = cli("search", "tea", *types, *dates, "--path", "/notes/größe")

    assert (done.returncode, done.stderr) == (0, "")
    assert bodies == [
        {
            "query": "tea",
            "limit": 10,
            "offset": 0,
            "types": ["text/*", "application/pdf"],
            "modified_from": "2026-06-30T22:00:00+00:00",
            "modified_before": "2026-11-01T09:30:00.500000-05:00",
            "path": "/notes/größe",
        }
    ]


def test_without_filters_none_is_asked_for(cli: Any, peer: Peer):
    bodies = noted(peer)

    assert cli("search", "tea", "--path", "").returncode == 0
    assert bodies == [{"query": "tea", "limit": 10, "offset": 0}]


def test_path_that_is_no_utf8_is_spelled_as_results_spell_it(cli: Any, peer: Peer):
    bodies = noted(peer)

    assert cli("search", "tea", "--path", "/notes/a\udcff\udce4").returncode == 0
    assert [body["path"] for body in bodies] == ["/notes/a\\xff\\xe4"]


@pytest.mark.parametrize("option", ["--from", "--before"])
@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "2026-02-30", "2026-11-01 09:30", "2026-11-01T09:30:00", "0001-01-01"],
)
def test_what_is_no_date_is_wrong_use(cli: Any, peer: Peer, option: str, value: str):
    bodies = noted(peer)

    assert_refused(cli("search", "tea", option, value), 2, option, "2026-11-01T09:30:00Z")
    assert bodies == []


def test_a_result_says_on_which_page_it_is_and_where_it_is_too(cli: Any, peer: Peer):
    places = [{"document_id": "9", "path": f"/b{n}.pdf"} for n in range(5)]
    result = {
        "chunk": {"heading": "page 7"},
        "document": {"title": "Tea", "path": "/a.pdf", "mime_type": "application/pdf"},
        "highlights": ["green <mark>tea</mark>"],
        "also_at": places,
    }
    text = {
        "chunk": {"heading": "Tea > Green"},
        "document": {"title": "Notes", "path": "/a.md", "mime_type": "text/markdown"},
        "highlights": [],
    }
    peer.on["POST /search"] = lambda *_: (
        200,
        {"results": [result, text], "total_count": 2, "took": 1},
    )

    assert cli("search", "tea").stdout.splitlines()[:9] == [
        "1. Tea",
        "   /a.pdf (page 7)",
        "   also: /b0.pdf",
        "   also: /b1.pdf",
        "   also: /b2.pdf",
        "   also: 2 more",
        "   green tea",
        "2. Notes",
        "   /a.md",
    ]
