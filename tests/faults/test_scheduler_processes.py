"""The command `sercha worker` as candidates for scheduling: killed, stopped, told to end, cut off from Redis."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio

from lockd.postgres import TrioConnection
from sercha.domain.schedule import SlotOutcome
from tests.support.postgres import PostgresServer, free_port
from tests.support.redis import RedisServer
from tests.support.scheduler_rig import ENDED_ITSELF, Candidate, Rig, open_rig

TTL = 2.0
LONG_TTL = 60.0
"""Longer than a test waits: what is taken over meanwhile was released."""
SLACK = 3.0
"""Seconds beyond the promised moment, for machines with much else to do. The figures are printed."""
BLOCKED = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
             AND wait_event_type = 'Lock' AND query LIKE '%%INTO schedule_slot%%' AND pid <> pg_backend_pid()"""


@pytest.fixture(params=["postgres", "redis"])
def redis_or_none(request: pytest.FixtureRequest) -> RedisServer | None:
    """Give the server of the lease; None: it is in PostgreSQL."""
    return None if request.param == "postgres" else request.getfixturevalue("redis_server")


async def _begin(rig: Rig) -> tuple[Candidate, Candidate, int]:
    """Start two candidates and let some slots pass; who leads, who follows, and the leader's token."""
    await rig.add_one_of_each()
    await rig.start(2)
    leader = await rig.leader()
    token = await rig.token()
    await rig.slots_pass(2, token=token)
    [follower] = [each for each in rig.candidates if each is not leader]
    return leader, follower, token


async def _report(rig: Rig, old: int, new: int, since: float, what: str) -> None:
    """Print what a hand-over took."""
    slots = await rig.slots()
    last = max(slot.recorded_at for slot in slots if slot.token == old)
    first = min(slot.recorded_at for slot in slots if slot.token == new)
    print(
        f"{what}: taken over after {new / 1000 - since:.2f} s, first step after {first - since:.2f} s;"
        f" {first - last:.2f} s between the last slot of the old token and the first of the new one"
    )


async def test_of_two_processes_one_schedules(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=LONG_TTL) as rig:
        leader, follower, token = await _begin(rig)
        await rig.slots_pass(3, token=token)

        await rig.assert_each_slot_has_one_outcome()
        assert {slot.token for slot in await rig.slots()} == {token}
        assert leader.events_of("scheduler.ticked")
        assert not follower.events_of("scheduler.ticked", "scheduler.lease_acquired")


async def test_after_a_kill_the_other_one_schedules_within_the_ttl_and_catches_up(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    """Fault 9. Cause: SIGKILL of the holder. Invariants: I7, I12."""
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=TTL) as rig:
        leader, _, old = await _begin(rig)
        killed_at = await rig.now()
        leader.signal(signal.SIGKILL)
        await leader.process.wait()
        expiry = await rig.expiry()

        new = await rig.succession(old)

        await _report(rig, old, new, killed_at, f"SIGKILL, TTL {TTL} s")
        assert killed_at < expiry <= killed_at + TTL
        assert expiry - 0.1 <= new / 1000 <= expiry + SLACK
        outcomes = await rig.assert_each_slot_has_one_outcome()
        assert outcomes[SlotOutcome.ENQUEUED]


@pytest.mark.proof
async def test_with_the_default_ttl_a_killed_holder_is_followed_within_61_seconds(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    """Fault 9 with what nobody has set: 60 s. Counted from the holder's last renewal."""
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=None) as rig:
        leader, _, old = await _begin(rig)
        killed_at = await rig.now()
        leader.signal(signal.SIGKILL)
        await leader.process.wait()
        renewed_at = await rig.expiry() - 60

        new = await rig.succession(old, 90)

        await _report(rig, old, new, killed_at, "SIGKILL, default TTL")
        print(f"{new / 1000 - renewed_at:.2f} s after the last renewal")
        assert renewed_at <= killed_at < renewed_at + 60
        assert renewed_at + 59.9 <= new / 1000 <= renewed_at + 61
        await rig.assert_each_slot_has_one_outcome()


async def test_an_orderly_end_hands_over_at_once(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    """Fault 10. Cause: SIGTERM of the holder. The TTL is a minute; invariant I7."""
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=LONG_TTL) as rig:
        leader, _, old = await _begin(rig)
        asked_at = await rig.now()
        leader.signal(signal.SIGTERM)

        new = await rig.succession(old)

        await _report(rig, old, new, asked_at, "SIGTERM")
        assert new / 1000 - asked_at < 2
        with trio.fail_after(30):
            assert await leader.process.wait() == 0
        assert leader.events_of("scheduler.stopped")
        await rig.slots_pass(2, token=new)
        await rig.assert_each_slot_has_one_outcome()


async def test_a_holder_stopped_for_two_ttls_writes_nothing_late(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    """Fault 7. Cause: SIGSTOP of the holder. Invariants: I3, I7; the new one stays.

    When the old one wakes up it finds work which the new one, standing still in its turn, has not done.
    """
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=3.0) as rig:
        leader, follower, old = await _begin(rig)
        stopped_at = await rig.now()
        leader.signal(signal.SIGSTOP)
        new = await rig.succession(old)
        await _report(rig, old, new, stopped_at, "SIGSTOP, TTL 3 s")
        await trio.sleep(max(0.0, stopped_at + 6.0 - await rig.now()))
        before = [slot for slot in await rig.slots() if slot.token == old]
        follower.signal(signal.SIGSTOP)
        with trio.fail_after(20):
            how = await leader.wake()
        follower.signal(signal.SIGCONT)
        print(f"the old holder {how}")

        await rig.slots_pass(3, token=new)

        await rig.assert_each_slot_has_one_outcome()
        assert [slot for slot in await rig.slots() if slot.token == old] == before
        assert await rig.leader() is follower
        assert await rig.token() == new


@asynccontextmanager
async def _slots_taken(url: str) -> AsyncGenerator[TrioConnection[Any]]:
    """Take the keys of slots to come, in a transaction of its own: whoever records them waits for its end."""
    connection = await TrioConnection[Any].connect(url)
    try:
        await connection.execute(
            b"""INSERT INTO schedule_slot (schedule_id, slot, slot_last, outcome)
                SELECT id, slot, slot, 'paused' FROM schedule,
                    generate_series(next_slot + interval '1 s', next_slot + interval '60 s', '1 s') AS slot"""
        )
        yield connection
    finally:
        connection.finish()
