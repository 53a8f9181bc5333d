"""Sources, documents, search and what administrators look at, over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from sercha.domain.account import Role
from sercha.domain.document import DocumentId
from sercha.domain.query import SearchMode, parse_query
from sercha.services.ports import IndexHit
from tests.support.api import Api, open_api
from tests.support.upstream import SHAPES

NOBODY = str(uuid4())


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Api]:
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error", "code"}, body
    return answer.status_code, body["code"]


async def test_source_lives_from_creation_to_removal(api: Api) -> None:
    headers = await api.setup()
    source_id = await api.source(headers)
    url = f"/api/v1/sources/{source_id}"

    shown = (await api.client.get(url, headers=headers)).json()
    listed = (await api.client.get("/api/v1/sources", headers=headers)).json()
    echoed = await api.client.put(url, headers=headers, json={"config": shown["config"]})
    renamed = await api.client.put(url, headers=headers, json={"name": "new", "enabled": False})
    disabled = await api.client.post(f"{url}/sync", headers=headers)
    enabled = await api.client.post(f"{url}/enable", headers=headers)
    again_off = await api.client.post(f"{url}/disable", headers=headers)
    removed = await api.client.delete(url, headers=headers)
    gone = await api.client.get(url, headers=headers)

    assert shown["config"]["paths"] == [str(api.root)]
    assert (shown["enabled"], shown["selected_containers"]) == (True, [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["created_at"])
    [summary] = listed
    assert (summary["source"], summary["document_count"], summary["sync_status"]) == (
        shown,
        0,
        "idle",
    )
    assert echoed.json()["config"] == shown["config"]
    assert (renamed.json()["name"], renamed.json()["enabled"]) == ("new", False)
    assert renamed.json()["config"] == shown["config"]
    assert code_of(disabled) == (409, "source-disabled")
    assert [enabled.json(), again_off.json(), removed.json()] == [{"status": "ok"}] * 3
    assert code_of(gone) == (404, "source-not-found")


async def test_source_with_a_wrong_configuration_is_refused(api: Api) -> None:
    headers = await api.setup()
    good = {"name": "n", "provider_type": "localfs", "config": {"paths": [str(api.root)]}}

    async def refused(**change: object) -> tuple[int, str]:
        answer = await api.client.post("/api/v1/sources", headers=headers, json={**good, **change})
        return code_of(answer)

    assert await refused(provider_type="github") == (400, "unknown-provider")
    assert await refused(name=" ") == (400, "bad-field")
    assert (await refused(config={"paths": ["/"]}))[0] in {400, 403}
    assert (await refused(config={"paths": [str(api.root / "missing")]}))[0] == 400
    assert (await refused(config={"repository": "a/b", "paths": [str(api.root)]}))[0] == 400
    assert await refused(config={"colour": "red"}) == (400, "unknown-field")
    assert await refused(config={"paths": ["a\0b"]}) == (400, "bad-field")
    assert await refused(config={"paths": "a"}) == (400, "bad-field")
    assert await refused(installation_id="inst") == (400, "bad-field")
    empty = {**good, "installation_id": ""}
    assert (
        await api.client.post("/api/v1/sources", headers=headers, json=empty)
    ).status_code == 201
    assert await refused() == (409, "source-exists")


async def test_ids_that_name_nothing_are_not_found(api: Api) -> None:
    headers = await api.setup()
    ids = [NOBODY, "1", "x", "%00", "%ED%A0%80", "..%2f", "a" * 5000, "{" + NOBODY + "}", "-1", "٣"]

    for each in ids:
        for method, path, code in [
            ("GET", "sources/{}", "source-not-found"),
            ("PUT", "sources/{}", "source-not-found"),
            ("DELETE", "sources/{}", "source-not-found"),
            ("POST", "sources/{}/sync", "source-not-found"),
            ("GET", "sources/{}/sync", "source-not-found"),
            ("GET", "sources/{}/documents", "source-not-found"),
            ("GET", "sources/{}/issues", "source-not-found"),
            ("GET", "tasks/{}", "task-not-found"),
            ("DELETE", "users/{}", "user-not-found"),
            ("GET", "documents/{}", "document-not-found"),
            ("GET", "documents/{}/chunks", "document-not-found"),
        ]:
            body = {} if method == "PUT" else None
            answer = await api.client.request(
                method, "/api/v1/" + path.format(each), headers=headers, json=body
            )
            status, got = code_of(answer)
            assert status == 404, (method, path, each, answer.text)
            assert got in {code, "not-found"}
    for number in (0, 2**63 - 1, 2**63, 10**30):
        answer = await api.client.get(f"/api/v1/documents/{number}", headers=headers)
        assert code_of(answer) == (404, "document-not-found")


async def test_sync_is_accepted_once_and_shown_as_a_task(api: Api) -> None:
    headers = await api.setup()
    source_id = await api.source(headers)
    url = f"/api/v1/sources/{source_id}"

    first = await api.client.post(f"{url}/sync", headers=headers)
    second = await api.client.post(f"{url}/sync", headers=headers)
    state = (await api.client.get(f"{url}/sync", headers=headers)).json()
    states = (await api.client.get("/api/v1/sources/sync-states", headers=headers)).json()
    tasks = (await api.client.get("/api/v1/tasks?state=queued&limit=5", headers=headers)).json()
    task = (
        await api.client.get(f"/api/v1/tasks/{first.json()['task_id']}", headers=headers)
    ).json()
    issues = (await api.client.get(f"{url}/issues?limit=5", headers=headers)).json()

    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["source_id"]) == ("accepted", source_id)
    assert states == [state]
    assert (state["status"], state["stats"]["documents_added"]) == ("idle", 0)
    assert tasks["tasks"] == [task]
    assert tasks["counts"]["queued"] == 1
    assert (task["kind"], task["state"], task["payload"]) == (
        "sync_source",
        "queued",
        {"source_id": source_id},
    )
    assert issues == {"issues": [], "limit": 5, "offset": 0}


async def test_selection_of_folders_can_only_be_all(api: Api) -> None:
    headers = await api.setup()
    url = f"/api/v1/sources/{await api.source(headers)}/selection"

    everything = await api.client.put(url, headers=headers, json={"selected_containers": []})
    some = await api.client.put(url, headers=headers, json={"selected_containers": ["a/b"]})

    assert everything.json() == {"status": "ok"}
    assert code_of(some) == (400, "bad-field")


async def test_documents_are_shown_to_their_readers_only(api: Api) -> None:
    headers = await api.setup()
    viewer = await api.user(Role.VIEWER)
    [ann] = [user for user in await api.services.accounts.users() if user.role is Role.ADMIN]
    source_id = await api.source(headers)
    public = await api.document(UUID(source_id), "for all of us", name="a.txt")
    secret = await api.document(
        UUID(source_id), "for Ann", name="b.txt", readers=(f"user:{ann.id}",)
    )

    page = (
        await api.client.get(f"/api/v1/sources/{source_id}/documents?limit=1", headers=headers)
    ).json()
    shown = (await api.client.get(f"/api/v1/documents/{public}", headers=viewer)).json()
    chunks = (await api.client.get(f"/api/v1/documents/{public}/chunks", headers=viewer)).json()
    hidden = await api.client.get(f"/api/v1/documents/{secret}", headers=viewer)
    own = await api.client.get(f"/api/v1/documents/{secret}", headers=headers)

    assert (page["total"], page["limit"], page["offset"]) == (2, 1, 0)
    assert page["documents"] == [shown["document"]]
    assert set(shown["document"]) == SHAPES["Document"]
    assert shown["document"]["id"] == str(public)
    [chunk] = shown["chunks"]
    assert (chunk["content"], chunk["start_char"], chunk["end_char"]) == ("for all of us", 0, 13)
    assert set(chunk) == SHAPES["Chunk"] - {"embedding"}
    assert chunks == shown
    assert code_of(hidden) == (404, "document-not-found")
    assert own.status_code == 200


async def test_search_answers_as_the_go_program_does(api: Api) -> None:
    headers = await api.setup()
    source_id = await api.source(headers)
    text = "a <b>bold</b> needle in hay"
    document_id = await api.document(UUID(source_id), text)
    api.index.hits = (IndexHit(document_id, 0, 1.5),)

    posted = await api.client.post(
        "/api/v1/search",
        headers=headers,
        json={"query": "needle", "mode": "hybrid", "limit": 5, "source_ids": [source_id]},
    )
    got = await api.client.get(
        f"/api/v1/search?q=needle&mode=text&limit=5&source_ids={source_id}", headers=headers
    )

    assert posted.status_code == 200
    page = posted.json()
    assert set(page) == SHAPES["SearchResult"] | {"degraded", "coverage"}
    assert (page["query"], page["mode"], page["total_count"]) == ("needle", "text", 1)
    assert page["took"] > 0
    [result] = page["results"]
    assert set(result) == SHAPES["RankedChunk"]
    assert result["score"] == 1.5
    assert result["document"]["id"] == result["chunk"]["document_id"] == str(document_id)
    assert result["highlights"] == ["a &lt;b&gt;bold&lt;/b&gt; <mark>needle</mark> in hay"]
    assert {**got.json(), "took": 0} == {**page, "took": 0}
    assert [query.mode for query in api.index.queries] == [SearchMode.HYBRID, SearchMode.TEXT]
    assert all(query.source_ids == (UUID(source_id),) for query in api.index.queries)


async def test_filters_of_a_search_reach_the_index(api: Api) -> None:
    headers = await api.setup()
    path = "/größe/a' OR 1 --/東京"
    filters = {
        "types": ["text/*", "Application/PDF"],
        "modified_from": "2026-11-01T01:00:00+01:00",
        "modified_before": "2026-12-01T00:00:00.25Z",
        "path": path,
    }

    posted = await api.client.post("/api/v1/search", headers=headers, json={"query": "x"} | filters)
    got = await api.client.get("/api/v1/search", headers=headers, params={"q": "x"} | filters)
    nothing = dict.fromkeys(filters) | {"path": "", "modified_from": ""}
    bare = await api.client.post("/api/v1/search", headers=headers, json={"query": "x"} | nothing)

    assert [each.status_code for each in (posted, got, bare)] == [200] * 3, got.text
    first, second, third = api.index.queries
    assert first == second
    assert (first.mime_types, first.path) == (("text/*", "application/pdf"), path)
    assert first.modified_from == datetime(2026, 11, 1, tzinfo=UTC)
    assert first.modified_before == datetime(2026, 12, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert third == parse_query("x", limit=third.limit, mode=third.mode)


async def test_search_takes_its_defaults_from_the_settings(api: Api) -> None:
    headers = await api.setup()
    await api.client.put(
        "/api/v1/settings",
        headers=headers,
        json={"results_per_page": 3, "default_search_mode": "semantic"},
    )

    answer = await api.client.post(
        "/api/v1/search", headers=headers, json={"query": "x", "mode": "", "source_ids": None}
    )

    assert answer.json()["results"] == []
    [query] = api.index.queries
    assert (query.limit, query.mode, query.offset) == (3, SearchMode.SEMANTIC, 0)


async def test_result_that_is_gone_is_left_out(api: Api) -> None:
    headers = await api.setup()
    api.index.hits = (IndexHit(DocumentId(99), 0, 1.0),)

    answer = await api.client.post("/api/v1/search", headers=headers, json={"query": "x"})

    assert (answer.json()["results"], answer.json()["total_count"]) == ([], 1)


async def test_administrators_see_counts_providers_and_processes(api: Api) -> None:
    headers = await api.setup()
    await api.document(UUID(await api.source(headers)), "text")

    stats = (await api.client.get("/api/v1/admin/stats", headers=headers)).json()
    providers = (await api.client.get("/api/v1/providers", headers=headers)).json()
    nodes = (await api.client.get("/api/v1/nodes", headers=headers)).json()
    installations = (await api.client.get("/api/v1/installations", headers=headers)).json()

    assert stats == {
        "users": {"total": 1},
        "sources": {"total": 1, "enabled": 1},
        "documents": {"total": 1},
        "chunks": {"total": 1},
        "installations": {"total": 0},
    }
    assert [provider["type"] for provider in providers] == ["localfs"]
    assert (nodes, installations) == ({"nodes": []}, [])


async def test_operations_pages_stand_at_the_root_and_beside_the_rest(api: Api) -> None:
    for prefix in ("", "/api/v1"):
        health = await api.client.get(f"{prefix}/health")
        ready = await api.client.get(f"{prefix}/ready")
        version = await api.client.get(f"{prefix}/version")
        assert health.json() == {
            "status": "healthy",
            "components": {"postgres": {"status": "healthy"}},
        }
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert version.json() == {"version": "1.2.3"}

    metrics = await api.client.get("/metrics")

    assert metrics.headers["content-type"].startswith("text/plain")
    assert (
        'sercha_http_requests_total{method="GET",route="/api/v1/version",status="200"}'
        in metrics.text
    )
    assert "sercha_http_request_duration_seconds_bucket" in metrics.text
