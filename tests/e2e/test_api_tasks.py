"""Tasks and processes over the API: listed, asked for, retried, cancelled; sources paused and resumed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from sercha.adapters.postgres.nodes import PostgresNodeStore
from sercha.domain.account import Role
from sercha.domain.task import Outcome
from sercha.services.ports import Node
from tests.support.api import Api, open_api


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path):
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def call(api: Api, method: str, path: str, headers: dict[str, str], **more: Any):
    return await api.client.request(method, f"/api/v1{path}", headers=headers, **more)


async def ask(api: Api, headers: dict[str, str], kind: str) -> httpx.Response:
    return await call(api, "POST", "/tasks", headers, json={"kind": kind})


async def claimed(api: Api, *kinds: str, node_id: UUID | None = None):
    owner = uuid4()
    await api.services.queue.register(owner, node_id or owner)
    (claim,) = await api.services.queue.claim(owner, 1, kinds)
    return claim


async def test_tasks_are_asked_for_once_and_listed_in_pages(api: Api) -> None:
    headers = await api.setup()
    asked = [await ask(api, headers, kind) for kind in ("sync_all", "reindex", "prune", "prune")]
    ids = [answer.json()["task_id"] for answer in asked]

    first = (await call(api, "GET", "/tasks?limit=2", headers)).json()
    second = (await call(api, "GET", f"/tasks?limit=2&before={ids[1]}", headers)).json()
    prunes = (await call(api, "GET", "/tasks?kind=prune&state=queued", headers)).json()

    assert [(answer.status_code, answer.json()["status"]) for answer in asked] == [
        (202, "accepted")
    ] * 4
    assert ids[2] == ids[3]
    assert [task["id"] for task in first["tasks"]] == [ids[2], ids[1]]
    assert [task["id"] for task in second["tasks"]] == [ids[0]]
    assert [task["id"] for task in prunes["tasks"]] == [ids[2]]
    assert first["counts"]["queued"] == 3


async def test_tasks_of_a_source_are_found(api: Api) -> None:
    headers = await api.setup()
    ids = [await api.source(headers, name) for name in ("one", "two")]
    asked = [await call(api, "POST", f"/sources/{each}/sync", headers) for each in ids]

    found = (await call(api, "GET", f"/tasks?source_id={ids[1]}", headers)).json()["tasks"]

    assert [task["id"] for task in found] == [asked[1].json()["task_id"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "sync_source"}, "bad-field"),
        ({"kind": "errand"}, "bad-field"),
        ({}, "bad-field"),
        ({"kind": "prune", "payload": {}}, "unknown-field"),
    ],
)
async def test_other_tasks_cannot_be_asked_for(api: Api, body: dict[str, Any], code: str) -> None:
    headers = await api.setup()

    assert code_of(await call(api, "POST", "/tasks", headers, json=body)) == (400, code)


async def test_a_dead_task_is_retried_and_a_running_one_cancelled(api: Api) -> None:
    headers = await api.setup()
    task_id = (await ask(api, headers, "prune")).json()["task_id"]
    too_early = await call(api, "POST", f"/tasks/{task_id}/retry", headers)
    claim = await claimed(api, "prune")
    await api.services.queue.settle([Outcome(claim, error="no", is_final=True)])

    retried = await call(api, "POST", f"/tasks/{task_id}/retry", headers)
    shown = (await call(api, "GET", f"/tasks/{task_id}", headers)).json()
    await claimed(api, "prune")
    cancelled = await call(api, "POST", f"/tasks/{task_id}/cancel", headers)
    again = await call(api, "POST", f"/tasks/{task_id}/cancel", headers)

    assert code_of(too_early) == (409, "task-state")
    assert (retried.status_code, retried.json()) == (
        202,
        {"status": "accepted", "task_id": task_id},
    )
    assert (shown["state"], shown["tries"], shown["attempt"]) == ("queued", 0, 1)
    assert cancelled.json() == {"status": "ok"}
    assert code_of(again) == (409, "task-state")
    for action in ("retry", "cancel"):
        for name in (uuid4(), "x"):
            gone = await call(api, "POST", f"/tasks/{name}/{action}", headers)
            assert code_of(gone) == (404, "task-not-found")


async def test_a_retry_names_the_twin_that_waits(api: Api) -> None:
    headers = await api.setup()
    task_id = (await ask(api, headers, "prune")).json()["task_id"]
    await call(api, "POST", f"/tasks/{task_id}/cancel", headers)
    twin = (await ask(api, headers, "prune")).json()["task_id"]

    retried = await call(api, "POST", f"/tasks/{task_id}/retry", headers)

    assert twin != task_id
    assert retried.json()["task_id"] == twin


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tasks"),
        ("POST", "/tasks"),
        ("POST", "/tasks/0192f0c1-2c00-7000-8000-000000000001/retry"),
        ("POST", "/tasks/0192f0c1-2c00-7000-8000-000000000001/cancel"),
        ("GET", "/nodes"),
    ],
)
async def test_tasks_are_for_administrators(api: Api, method: str, path: str) -> None:
    await api.setup()
    headers = await api.user(Role.MEMBER)

    assert code_of(await call(api, method, path, headers)) == (403, "role-required")


async def test_nodes_are_shown_with_what_they_do(api: Api) -> None:
    headers = await api.setup()
    source_id = await api.source(headers)
    now = datetime.now(UTC)
    node = Node(uuid4(), "worker", "host", 7, "1.2.3", now, now)
    await PostgresNodeStore(api.pool).beat(node)
    task_id = (await call(api, "POST", f"/sources/{source_id}/sync", headers)).json()["task_id"]
    await claimed(api, "sync_source", node_id=node.id)

    (shown,) = (await call(api, "GET", "/nodes", headers)).json()["nodes"]

    assert (shown["id"], shown["is_alive"], shown["pid"]) == (str(node.id), True, 7)
    (doing,) = shown["running"]
    claimed_at = datetime.fromisoformat(doing.pop("claimed_at"))
    assert abs((claimed_at - now).total_seconds()) < 60
    assert doing == {
        "task_id": task_id,
        "kind": "sync_source",
        "attempt": 1,
        "source_id": source_id,
        "source_name": "notes",
    }


async def test_a_source_that_is_paused_has_no_tasks_and_one_that_is_resumed_has_one(
    api: Api,
) -> None:
    headers = await api.setup()
    source_id = await api.source(headers)
    await call(api, "POST", f"/sources/{source_id}/sync", headers)

    await call(api, "POST", f"/sources/{source_id}/disable", headers)
    paused = (await call(api, "GET", "/tasks", headers)).json()["counts"]
    await call(api, "POST", f"/sources/{source_id}/enable", headers)
    resumed = (await call(api, "GET", "/tasks", headers)).json()["counts"]

    assert (paused["queued"], paused["cancelled"]) == (0, 1)
    assert (resumed["queued"], resumed["cancelled"]) == (1, 1)
