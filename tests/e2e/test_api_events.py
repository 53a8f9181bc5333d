"""Events over a real socket: live, after a cut, after the drain; for whom, and for how long."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import trio

from sercha.domain.account import Role
from sercha.roles.api import ApiOptions
from sercha.roles.api import events as room
from sercha.services.background import running
from tests.support.serving import Served, serve

PATH = "/api/v1/events"


@dataclass
class Stream:
    """One stream, a frame at a time."""

    response: httpx.Response
    lines: trio.MemoryReceiveChannel[str]
    last_id: str = ""

    async def frame(self) -> dict[str, str] | None:
        """Return the next frame with an event; None at the end. Keeps the last position, as browsers do."""
        fields: dict[str, str] = {}
        with trio.fail_after(20):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                    if name == "id":
                        self.last_id = value
                elif "event" in fields:
                    return fields
                else:
                    fields = {}
        return None

    async def until(self, kind: str) -> dict[str, str]:
        """Return the next frame of a kind."""
        while (frame := await self.frame()) is not None:
            if frame["event"] == kind:
                return frame
        raise AssertionError(f"the stream ended without {kind}")

    async def begun(self) -> None:
        """Read the first frame: from then on nothing is missed."""
        async for line in self.lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
            elif not line:
                return


@asynccontextmanager
async def reading(response: httpx.Response) -> AsyncGenerator[Stream]:
    """Read in the background: what iterates must be inside of it when it is cancelled."""
    send, receive = trio.open_memory_channel[str](math.inf)

    async def read() -> None:
        with send:
            async for line in response.aiter_lines():
                send.send_nowait(line)

    async with running(read):
        yield Stream(response, receive)


@asynccontextmanager
async def stream(served: Served, **headers: str) -> AsyncGenerator[Stream]:
    async with served.client.stream("GET", PATH, headers=headers, timeout=30) as response:
        assert response.status_code == 200, await response.aread()
        async with reading(response) as opened:
            await opened.begun()
            yield opened


@pytest.fixture
async def served(postgres_url: str, tmp_path: Any):
    async with (
        serve(postgres_url, tmp_path) as served,
        running(served.services.events.run),
    ):
        await served.login()
        yield served


async def tell(
    served: Served, kind: str = "source.changed", *, number: int = 1, size: int = 1
) -> None:
    async with served.pool.connection() as connection:
        await connection.execute(
            "SELECT record_event(%s, NULL, jsonb_build_object('x', repeat('x', %s)))"
            " FROM generate_series(1, %s)",
            [kind, size, number],
        )


async def test_what_happens_arrives_with_its_position(served: Served, tmp_path: Any) -> None:
    async with stream(served) as opened:
        answer = await served.client.post(
            "/api/v1/sources",
            json={
                "name": "notes",
                "provider_type": "localfs",
                "config": {"paths": [str(tmp_path)]},
            },
        )
        assert answer.status_code == 201
        frame = await opened.until("source.added")

    assert opened.response.headers["content-type"].startswith("text/event-stream")
    assert opened.response.headers["cache-control"] == "no-store"
    assert opened.response.headers["x-accel-buffering"] == "no"
    said = json.loads(frame["data"])
    assert said["subject_id"] == answer.json()["id"]
    assert said["data"]["name"] == "notes"
    assert said["event_id"].isdecimal()


async def test_whoever_comes_back_misses_nothing(served: Served) -> None:
    async with stream(served) as opened:
        await tell(served, "a.first")
        await opened.until("a.first")
    await tell(served, "a.second")
    async with stream(served, **{"Last-Event-ID": opened.last_id}) as again:
        await tell(served, "a.third")
        kinds = [(await again.frame() or {})["event"] for _ in range(2)]

    assert kinds == ["a.second", "a.third"]


async def test_without_the_header_a_position_may_stand_in_the_address(served: Served) -> None:
    async with stream(served) as opened:
        position = opened.last_id
    await tell(served, "a.one")
    asking = served.client.stream("GET", PATH, params={"after": position})
    async with asking as response, reading(response) as again:
        assert (await again.until("a.one"))["event"] == "a.one"


async def test_a_position_that_is_none_is_refused(served: Served) -> None:
    answer = await served.client.get(PATH, headers={"Last-Event-ID": "yesterday"})

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad-position"


async def test_a_position_of_another_database_is_answered_with_a_reset(served: Served) -> None:
    async with stream(served, **{"Last-Event-ID": "1/00000001/5:3:3:"}) as opened:
        await opened.until("reset")
        await tell(served, "a.later")
        await opened.until("a.later")
        assert opened.last_id != "1/00000001/5:3:3:"


async def test_the_drain_sends_clients_away_at_once(served: Served) -> None:
    async with stream(served) as opened:
        served.drain.set()
        frame = await opened.until("reconnect")
        assert int(frame["retry"]) <= max(room.RETRY_DRAIN_MS)
        assert await opened.frame() is None
    with trio.fail_after(10):
        await served.ended.wait()


async def test_a_session_that_ends_ends_its_streams(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HEARTBEAT", 0.2)
    async with stream(served) as opened:
        await tell(served, "a.one")
        await opened.until("a.one")
        assert (await served.client.post("/api/v1/auth/logout")).status_code < 300
        frame = await opened.until("end")
        assert json.loads(frame["data"])["code"] == "session-ended"
        assert await opened.frame() is None


async def test_a_quiet_stream_says_that_it_lives_and_outlasts_the_usual_limit(
    postgres_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HEARTBEAT", 0.1)
    options = ApiOptions(request_time=1.0)
    serving = serve(postgres_url, tmp_path, options=options)
    async with serving as served, running(served.services.events.run):
        await served.login()
        async with stream(served) as opened:
            begun, beats = trio.current_time(), 0
            with trio.fail_after(20):
                async for line in opened.lines:
                    beats += line == ": alive"
                    if beats >= 3 and trio.current_time() > begun + 2 * options.request_time:
                        break


async def test_events_of_schedules_are_for_administrators(served: Served) -> None:
    await served.services.accounts.create_user("Mo", "mo@example.org", "correct horse", Role.MEMBER)
    await served.services.accounts.create_user("Vi", "vi@example.org", "correct horse", Role.VIEWER)
    tokens: dict[str, str] = {}
    for name in ("mo", "vi"):
        login = {"email": f"{name}@example.org", "password": "correct horse"}
        answer = await served.client.post("/api/v1/auth/login", json=login)
        tokens[name] = f"Bearer {answer.json()['token']}"

    refused = await served.client.get(PATH, headers={"Authorization": tokens["vi"]})
    async with (
        stream(served) as admin,
        stream(served, Authorization=tokens["mo"]) as member,
    ):
        await tell(served, "schedule.added")
        await tell(served, "source.added")
        assert (await admin.frame() or {})["event"] == "schedule.added"
        assert (await member.frame() or {})["event"] == "source.added"

    assert refused.status_code == 403
    assert (await served.client.get(PATH, headers={"Authorization": ""})).status_code == 401


async def test_a_client_that_goes_away_leaves_nothing_behind(served: Served) -> None:
    watches = served.services.events._watches  # pyright: ignore[reportPrivateUsage]
    async with stream(served):
        assert len(watches) == 1

    with trio.fail_after(10):
        while watches:
            await trio.sleep(0.01)


async def test_a_client_that_does_not_read_holds_nobody_up_and_is_sent_away(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SEND_TIME", 1.0)
    watches = served.services.events._watches  # pyright: ignore[reportPrivateUsage]
    token = served.client.headers["Authorization"]
    connection = await trio.open_tcp_stream(*served.address)
    async with connection:
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
        await connection.send_all(head.encode())
        while not watches:
            await trio.sleep(0.01)
        [watch] = watches
        async with stream(served) as other:
            with trio.fail_after(60):
                while not watch.is_ended:
                    await tell(served, "a.lot", number=200, size=20_000)
                    for _ in range(200):
                        await other.until("a.lot")
            await tell(served, "a.fine")
            await other.until("a.fine")
        with trio.fail_after(30):
            async for part in connection:
                if part.endswith(b"0\r\n\r\n"):
                    break
            while watches:
                await trio.sleep(0.01)


async def test_a_question_for_the_head_alone_is_answered(served: Served) -> None:
    answer = await served.client.head(PATH)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_what_one_api_does_is_heard_at_another(postgres_url: str, tmp_path: Any) -> None:
    async with (
        serve(postgres_url, tmp_path) as one,
        serve(postgres_url, tmp_path) as two,
        running(one.services.events.run),
        running(two.services.events.run),
    ):
        await one.login()
        two.client.headers["Authorization"] = one.client.headers["Authorization"]
        async with stream(two) as opened:
            await tell(one, "a.told")
            await opened.until("a.told")
        await tell(two, "a.more")
        async with stream(one, **{"Last-Event-ID": opened.last_id}) as moved:
            assert (await moved.frame() or {})["event"] == "a.more"
