"""`sercha worker` in processes of their own, as candidates for scheduling, and what became of the slots.

All times are the server's, in seconds since 1970. A token is the millisecond in which its holder took the fence.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import trio
from psycopg.types.json import Jsonb

from sercha.domain.schedule import CatchUp, SlotOutcome
from sercha.roles.scheduler import LEASE
from tests.support.queue.rig import quiet
from tests.support.redis import RedisServer
from tests.support.schedules import SYNC, Lab, open_lab, source_payload
from tests.support.sercha import command, environment

SECOND = timedelta(seconds=1)
START_SECONDS = 60.0
LOOK_SECONDS = 0.02

ADD = """
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, payload, catch_up, next_slot)
SELECT id, id::text, 'interval', '1s', anchor, %s, %s, %s, anchor + interval '1 s'
FROM (SELECT gen_random_uuid() AS id, date_trunc('second', clock_timestamp()) AS anchor) AS new
RETURNING id, next_slot
"""

Event = dict[str, Any]


@dataclass(eq=False)
class Candidate:
    """One process and what it has logged."""

    process: trio.Process
    lines: list[str] = field(default_factory=list[str])
    events: list[Event] = field(default_factory=list[Event])
    _told: trio.Event = field(default_factory=trio.Event)

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def listen(self) -> None:
        """Take in its output until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            self.lines += [line.decode(errors="replace") for line in lines]
            self.events += [json.loads(line) for line in lines if line.startswith(b"{")]
            self._tell()
        await self.process.wait()
        self._tell()

    def _tell(self) -> None:
        self._told.set()
        self._told = trio.Event()

    def events_of(self, *kinds: str, since: int = 0, **details: object) -> list[Event]:
        """Return the events of these kinds from position *since* on."""
        return [
            event
            for event in self.events[since:]
            if event["event"] in kinds and details.items() <= event.items()
        ]

    async def wait_for(self, *kinds: str, since: int = 0, **details: object) -> Event:
        """Return the first event of these kinds from position *since* on."""
        while True:
            told = self._told
            if found := self.events_of(*kinds, since=since, **details):
                return found[0]
            assert self.is_alive, f"ended with {self.process.returncode}:\n{self.log}"
            await told.wait()

    async def wake(self) -> str:
        """SIGCONT, and wait until the process shows that it does not lead any more, or that it goes on; how."""
        since = len(self.events)
        self.signal(signal.SIGCONT)
        while not (said := self.events_of("scheduler.lease_lost", "scheduler.ticked", since=since)):
            told = self._told
            assert self.is_alive, f"ended with {self.process.returncode}:\n{self.log}"
            await told.wait()
        return f"said {said[0]['event']}"

    async def wait_ready(self) -> None:
        """Wait until it works and contends for the lease."""
        while "ready: worker" not in self.lines:
            told = self._told
            assert self.is_alive, self.log
            await told.wait()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@dataclass(frozen=True, slots=True)
class Slot:
    """One row: a slot, or a stretch of slots that did not run."""

    schedule: UUID
    first: datetime
    last: datetime
    outcome: SlotOutcome
    token: int | None
    recorded_at: float


class Rig:
    """The candidates, the servers and the schedules; made by `open_rig`."""

    def __init__(
        self, nursery: trio.Nursery, lab: Lab, home: Path, variables: dict[str, str]
    ) -> None:
        self.lab = lab
        self.candidates: list[Candidate] = []
        self.redis: RedisServer | None = None
        self._nursery = nursery
        self._home = home
        self._variables = variables
        self._first: dict[UUID, datetime] = {}

    # Processes.

    async def start(self, count: int, **variables: str) -> list[Candidate]:
        """Start candidates at the same time and wait until all of them work."""
        started: list[Candidate] = []
        for _ in range(count):
            process = await trio.lowlevel.open_process(
                command("worker"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env=environment(self._home, **{**self._variables, **variables}),
            )
            started.append(Candidate(process))
            self.candidates.append(started[-1])
            self._nursery.start_soon(started[-1].listen)
        with trio.fail_after(START_SECONDS):
            for candidate in started:
                await candidate.wait_ready()
        return started

    async def leader(self) -> Candidate:
        """Return the candidate that the fence names, when one does that runs."""
        query = f"SELECT holder::text FROM lease_fence WHERE name = '{LEASE}'"
        with trio.fail_after(30):
            while True:
                holder = await self.value(query)
                for each in self.candidates:
                    if each.is_alive and each.events_of("scheduler.lease_acquired", holder=holder):
                        return each
                await trio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Kill what still runs."""
        for each in self.candidates:
            if each.is_alive:
                each.process.kill()
                await each.process.wait()

    # Schedules and their slots.

    async def add(self, task_kind: str = SYNC, catch_up: CatchUp = CatchUp.COALESCE) -> None:
        """Add a schedule of every second; for syncs of a source that is not there, each with a key of its own."""
        payload = source_payload(uuid4()) if task_kind == SYNC else {}
        async with self.lab.pool.connection() as connection:
            cursor = await connection.execute(ADD, [task_kind, Jsonb(payload), catch_up])
            [(schedule, first)] = await cursor.fetchall()
        self._first[schedule] = first

    async def add_one_of_each(self) -> None:
        """Add a schedule for each way to make up for missed slots."""
        await self.add("prune", CatchUp.COALESCE)
        await self.add("sync_all", CatchUp.ALL)
        await self.add(SYNC, CatchUp.SKIP)

    async def value(self, statement: str, *parameters: object) -> Any:
        """Run one statement and return its first value."""
        return await self.lab.truth.value(statement, *parameters)

    async def number(self, statement: str, *parameters: object) -> float:
        found = await self.value(statement, *parameters)
        assert isinstance(found, int | float), found
        return found

    async def now(self) -> float:
        """Tell the server's time."""
        return await self.number("SELECT extract(epoch FROM clock_timestamp())::float8")

    async def token(self) -> int:
        """Return the token of the fence."""
        return int(await self.number(f"SELECT token FROM lease_fence WHERE name = '{LEASE}'"))

    async def expiry(self) -> float:
        """Tell when the lease ends if nobody renews it; now if it has ended."""
        if self.redis is None:
            query = f"SELECT extract(epoch FROM expires_at)::float8 FROM lease_row WHERE name = '{LEASE}'"
            return await self.number(query)
        ask = partial(self.redis.execute, "PTTL", f"sercha:lock:{LEASE}")
        now, left = await self.now(), await trio.to_thread.run_sync(ask)
        return now + max(0, int(left)) / 1000

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
        """Return when the condition holds."""
        with trio.move_on_after(seconds):
            while not await condition():
                await trio.sleep(LOOK_SECONDS)
            return
        logs = "\n\n".join(each.log[-3000:] for each in self.candidates)
        raise AssertionError(f"not within {seconds} s; the candidates say:\n{logs}")

    async def wait_value(self, statement: str, *parameters: object, seconds: float = 30.0) -> Any:
        """Return the first value of a query once it has any."""
        found: Any = None

        async def is_there() -> bool:
            nonlocal found
            found = await self.value(statement, *parameters)
            return found is not None

        await self.until(is_there, seconds)
        return found

    async def slots(self) -> list[Slot]:
        """Return what is recorded, in the order of recording."""
        query = """SELECT schedule_id, slot, slot_last, outcome, token, extract(epoch FROM recorded_at)::float8
                   FROM schedule_slot ORDER BY recorded_at, slot"""
        async with self.lab.pool.connection() as connection:
            rows = await (await connection.execute(query)).fetchall()
        return [Slot(row[0], row[1], row[2], SlotOutcome(row[3]), row[4], row[5]) for row in rows]

    async def slots_pass(self, count: int, *, token: int | None, others: bool = False) -> None:
        """Wait until *count* more instants are recorded under that token; under another one with *others*."""
        is_wanted = "IS DISTINCT FROM" if others else "IS NOT DISTINCT FROM"
        query = f"SELECT count(DISTINCT slot_last) FROM schedule_slot WHERE token {is_wanted} %s"
        wanted = await self.number(query, token) + count

        async def have_passed() -> bool:
            return await self.number(query, token) >= wanted

        await self.until(have_passed, 60.0 + count)

    async def succession(self, old: int, seconds: float = 30.0) -> int:
        """Wait for slots that a successor of the holder with token *old* has recorded; the first one's token."""
        query = "SELECT min(token) FROM schedule_slot WHERE token > %s"
        return int(await self.wait_value(query, old, seconds=seconds))

    async def caught_up(self) -> None:
        """Wait until everything that is due by now has its outcome."""
        now = await self.now()
        query = (
            "SELECT extract(epoch FROM min(next_slot))::float8 FROM schedule WHERE id = ANY (%s)"
        )

        async def is_done() -> bool:
            return await self.number(query, list(self._first)) > now

        await self.until(is_done)

    async def assert_each_slot_has_one_outcome(self) -> Counter[SlotOutcome]:
        """Catch up, then compare with what is wanted: no slot is missing, none is there twice, nor is a task.

        Returns how often which outcome is recorded.
        """
        await self.caught_up()
        query = """SELECT s.id, s.next_slot, r.slot, r.slot_last, r.outcome, r.task_id, t.id
                   FROM schedule s LEFT JOIN schedule_slot r ON r.schedule_id = s.id
                   LEFT JOIN task t ON t.id = r.task_id WHERE s.id = ANY (%s)"""
        async with self.lab.pool.connection() as connection:
            rows = await (await connection.execute(query, [list(self._first)])).fetchall()
        wanted = {
            (schedule, slot)
            for schedule, next_slot in {(row[0], row[1]) for row in rows}
            for slot in _seconds(self._first[schedule], next_slot - SECOND)
        }
        recorded = Counter(
            (row[0], slot) for row in rows if row[2] for slot in _seconds(row[2], row[3])
        )
        missing, twice = wanted - recorded.keys(), recorded - Counter(wanted)
        assert not missing, missing
        assert not twice, twice
        runs = [row for row in rows if row[4] == SlotOutcome.ENQUEUED]
        assert all(row[5] == row[6] for row in runs)
        assert len({row[5] for row in runs}) == len(runs)
        assert await self.lab.tasks_without_slot() == 0
        return Counter(SlotOutcome(row[4]) for row in rows if row[4])

    def assert_no_crash(self) -> None:
        """Nothing unexpected is in the logs."""
        for each in self.candidates:
            assert "Traceback" not in each.log, each.log
            assert not each.events_of("scheduler.step_crashed"), each.log


def _seconds(first: datetime, last: datetime) -> list[datetime]:
    return [first + n * SECOND for n in range(round((last - first) / SECOND) + 1)]


@asynccontextmanager
async def open_rig(
    url: str, redis: RedisServer | None, home: Path, *, ttl: float | None, **more: str
) -> AsyncGenerator[Rig]:
    """Make the tables, then candidates may be started; all have ended when the block has.

    *ttl* None is the default of the product.
    """
    variables = {
        "DATABASE_URL": url,
        "MASTER_KEY": secrets.token_hex(32),
        "SCHEDULER_ENABLED": "true",
        "SCHEDULER_POLL_INTERVAL": "1s",
        "WORKER_DEQUEUE_TIMEOUT": "1s",
        "SHUTDOWN_GRACE": "5s",
        "LOG_FORMAT": "json",
        **({"REDIS_URL": redis.url} if redis is not None else {}),
        **({"SCHEDULER_LOCK_TTL": f"{ttl}s"} if ttl is not None else {}),
        **more,
    }
    async with quiet(), open_lab(url) as lab, trio.open_nursery() as nursery:
        rig = Rig(nursery, lab, home, variables)
        rig.redis = redis
        try:
            yield rig
            rig.assert_no_crash()
        finally:
            with trio.CancelScope(shield=True):
                await rig.close()
        nursery.cancel_scope.cancel("the candidates have ended")
