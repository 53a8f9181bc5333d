"""A machine whose clock was wrong, and is set while Sercha runs: PostgreSQL, the API and the worker all jump with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import PostgresServer, Room
from tests.support.sercha import Sercha, clean_up, deployment
from tests.support.wall_clock import WallClock

EMAIL, PASSWORD = "admin@example.org", "correct horse battery"
PATIENCE_SECONDS = 60.0
HOURS = (5.0, -3.0, 48.0, 0.0)


@pytest.fixture
def clock(postgres_room: Room) -> WallClock:
    return WallClock(postgres_room.path)


@pytest.fixture
def postgres(postgres_room: Room, clock: WallClock) -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_room, environment=clock.environment)
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")


def wait_until_found(sercha: Sercha, token: str, word: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        status, found = sercha.request("POST", "/search", {"query": word}, token=token)
        assert status == 200, found
        if found["results"]:
            return
        assert time.monotonic() < deadline, sercha.output
        time.sleep(0.05)


def test_a_clock_that_is_set_stops_no_sync_and_no_search(
    postgres: PostgresServer, clock: WallClock, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    shared = deployment(postgres.url_for(postgres.create_database()), tmp_path, notes)
    try:
        arguments = ("all", "--port", "0")
        variables = {**shared, **clock.environment, "DATA_DIR": str(tmp_path / "data")}
        sercha = Sercha(tmp_path, *arguments, **variables).wait_ready()
        body = {"name": "Admin", "email": EMAIL, "password": PASSWORD}
        assert sercha.request("POST", "/setup", body)[0] == 201
        source_id = add_source(sercha, notes)
        for number, hours in enumerate((0.0, *HOURS)):
            clock.jump(hours)
            [[told]] = postgres.execute("SELECT extract(epoch FROM clock_timestamp())")
            assert abs(float(told) - time.time() - 3_600 * hours) < 60, "PostgreSQL did not jump"
            (notes / "note.txt").write_text(f"the clock says word{number}\n")
            token = sercha.login(EMAIL, PASSWORD)
            status, answer = sercha.request("POST", f"/sources/{source_id}/sync", token=token)
            assert status == 202, answer
            wait_until_found(sercha, token, f"word{number}")
            assert sercha.request("GET", "//health")[1]["status"] == "healthy"
        status, report = sercha.request("POST", "/admin/index/verify", token=token)
        assert status == 200, report
        assert [report[name] for name in ("checked", "missing", "stale", "ghost")] == [1, 0, 0, 0]
        assert sercha.stop() == 0, sercha.output
        assert "Traceback" not in sercha.output
    finally:
        clean_up(tmp_path)


def add_source(sercha: Sercha, folder: Path) -> str:
    body: dict[str, Any] = {
        "name": "notes",
        "provider_type": "localfs",
        "config": {"paths": [str(folder)]},
    }
    status, source = sercha.request("POST", "/sources", body, token=sercha.login(EMAIL, PASSWORD))
    assert status == 201, source
    return source["id"]
