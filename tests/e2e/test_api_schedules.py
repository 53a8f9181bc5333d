"""Schedules and leases over HTTP, and by the commands that speak to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio

from lockd import hold
from sercha.adapters.postgres.leases import open_postgres_leases
from sercha.domain.account import Role
from sercha.roles.api import run_api
from tests.support.api import ADMIN, Api, open_api, open_services

BODY = {"name": "nightly", "kind": "cron", "spec": "0 3 * * *", "task_kind": "sync_all"}


@dataclass
class Room:
    """The API with an administrator who is logged in."""

    api: Api
    headers: dict[str, str]

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.api.client.request(
            method, f"/api/v1{path}", headers=self.headers, **({} if body is None else {"json": body})
        )  # fmt: skip

    async def add(self, **changes: object) -> dict[str, Any]:
        answer = await self.ask("POST", "/schedules", {**BODY, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str, str]:
        answer = await self.ask(method, path, body)
        content = answer.json()
        assert set(content) == {"error", "code"}, content
        return answer.status_code, content["code"], content["error"]


@pytest.fixture
async def room(postgres_url: str, tmp_path: Path):
    async with open_api(postgres_url, tmp_path) as api:
        yield Room(api, await api.setup())


async def test_a_schedule_lives_from_creation_to_removal(room: Room) -> None:
    made = await room.add(tz="Europe/Berlin")
    path = f"/schedules/{made['id']}"

    assert made["version"] == 1
    assert len(made["upcoming"]) == 5
    assert made["next_slot"] == made["upcoming"][0]
    listed = (await room.ask("GET", "/schedules?name=nightly")).json()
    assert (listed["total"], listed["schedules"][0]["id"]) == (1, made["id"])
    changed = await room.ask("PUT", path, {"spec": "30 4 * * 1", "version": 1})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    paused = (await room.ask("POST", f"{path}/pause")).json()
    assert (paused["enabled"], paused["upcoming"]) == (False, [])
    assert (await room.ask("POST", f"{path}/resume")).json()["enabled"]
    run = await room.ask("POST", f"{path}/run")
    assert run.status_code == 202
    slots = (await room.ask("GET", f"{path}/slots")).json()["slots"]
    assert [(slot["outcome"], slot["task_id"]) for slot in slots] == [
        ("manual", run.json()["task_id"])
    ]
    assert (await room.ask("DELETE", path)).json() == {"status": "ok"}
    assert (await room.refused("GET", path))[:2] == (404, "schedule-not-found")


async def test_the_second_edit_of_one_version_is_a_conflict(room: Room) -> None:
    made = await room.add()
    path = f"/schedules/{made['id']}"
    await room.ask("PUT", path, {"spec": "0 4 * * *", "version": 1})

    refused = await room.refused("PUT", path, {"spec": "0 5 * * *", "version": 1})

    assert refused[:2] == (409, "schedule-changed")
    assert (await room.ask("GET", path)).json()["spec"] == "0 4 * * *"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": " "}, "name: give 1 to 200 printable characters"),
        ({"name": None}, "name: is required"),
        ({"kind": "weekly"}, "kind: "),
        ({"spec": "61 * * * *"}, "spec: wrong minute"),
        ({"spec": "* * *"}, "spec: 3 fields are given"),
        ({"kind": "interval", "spec": "0s"}, "spec: give a duration"),
        ({"tz": "Mars/Olympus"}, "tz: there is no time zone 'Mars/Olympus'"),
        ({"anchor": "2026-01-01T00:00:00"}, "anchor: "),
        ({"anchor": "9000-01-01T00:00:00Z"}, "anchor: give an instant"),
        ({"task_kind": "format_disk"}, "task_kind: 'format_disk' is unknown"),
        ({"payload": {"a": 1}}, "payload: a task of kind sync_all takes none"),
        ({"task_kind": "sync_source"}, "payload: must be"),
        ({"task_kind": "sync_source", "payload": {"source_id": str(uuid4())}}, "source_id: there is no source"),
        ({"priority": 10}, "priority: 10 is outside -9 to 9"),
        ({"runs_max": 0}, "runs_max: 0 is outside 1 to 100"),
        ({"runs_max": 10**12}, "runs_max: "),
        ({"max_late": -1}, "max_late: -1 is outside"),
        ({"catch_up": "hope"}, "catch_up: "),
        ({"next_slot": "2026-01-01T00:00:00Z"}, "'next_slot': there is no such field"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_by_the_name_of_its_field(
    room: Room, changes: dict[str, object], said: str
) -> None:
    status, code, error = await room.refused("POST", "/schedules", {**BODY, **changes})

    assert (status, code in {"bad-field", "unknown-field"}) == (400, True), error
    assert error.startswith(said)


async def test_names_are_unique_and_ids_must_exist(room: Room) -> None:
    await room.add()

    assert (await room.refused("POST", "/schedules", BODY))[:2] == (409, "schedule-exists")
    nobody = f"/schedules/{uuid4()}"
    for method, path in (
        ("GET", nobody), ("GET", f"{nobody}/slots"), ("DELETE", nobody),
        ("POST", f"{nobody}/pause"), ("POST", f"{nobody}/run"), ("GET", "/schedules/x"),
    ):  # fmt: skip
        assert (await room.refused(method, path))[:2] == (404, "schedule-not-found"), path


async def test_only_administrators_see_schedules_and_leases(room: Room) -> None:
    member = Room(room.api, await room.api.user(Role.MEMBER))

    for path in ("/schedules", "/leases"):
        assert (await member.refused("GET", path))[:2] == (403, "role-required")


async def test_leases_are_listed_and_can_be_taken_away(room: Room) -> None:
    assert (await room.ask("GET", "/leases")).json() == {"leases": []}
    async with (
        open_postgres_leases(room.api.pool, max_open=10) as store,
        hold(store, "scheduler", ttl=30) as lease,
    ):
        [shown] = (await room.ask("GET", "/leases")).json()["leases"]
        assert shown["holder"] == str(lease.holder)
        assert shown["token"] == lease.token
        assert 0 < shown["remaining"] <= 30

        answer = await room.ask("POST", "/leases/scheduler/release")
        assert answer.json() == {"status": "ok"}
        inspected = await store.inspect("scheduler")
        assert inspected.holder is None
        assert inspected.token > lease.token
    for name in ("nobody", "scheduler:free", "%00", "a b"):
        refused = await room.refused("POST", f"/leases/{name}/release")
        assert refused[:2] == (404, "lease-not-found"), name


async def test_the_commands_do_what_they_say(postgres_url: str, tmp_path: Path) -> None:
    async with (
        open_services(postgres_url, tmp_path) as (services, _, _),
        trio.open_nursery() as nursery,
    ):
        run = partial(run_api, services, host="127.0.0.1", port=0, drain=trio.Event(), grace=1)
        [url] = await nursery.start(run)
        await services.accounts.setup(**ADMIN)
        session = await services.accounts.login(ADMIN["email"], ADMIN["password"])
        environ = {**os.environ, "SERCHA_URL": url, "SERCHA_TOKEN": session.token}

        async def sercha(*words: str) -> str:
            done = await trio.run_process(
                [sys.executable, "-m", "sercha", *words],
                env=environ, capture_stdout=True, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout.decode()
            return done.stdout.decode()

        added = await sercha(
            "schedules", "add", "all", "--task", "sync_all", "--every", "90m", "--json"
        )
        assert json.loads(added)["spec"] == "90m"
        await sercha("schedules", "edit", "all", "--cron", "0 3 * * *", "--tz", "Asia/Tokyo")
        assert "0 3 * * * (Asia/Tokyo)" in await sercha("schedules", "list")
        assert (await sercha("schedules", "pause", "all")).strip() == "all: paused"
        assert (await sercha("schedules", "resume", "all")).strip() == "all: resumed"
        assert "task" in await sercha("schedules", "run", "all")
        assert "manual" in await sercha("schedules", "show", "all")
        assert (await sercha("schedules", "remove", "all", "--yes")).strip() == "all: removed"
        assert "no lease" in await sercha("lease", "list")
        nursery.cancel_scope.cancel()
