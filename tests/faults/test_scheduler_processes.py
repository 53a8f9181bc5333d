"""The command `sercha worker` as candidates for scheduling: killed, stopped, told to end, cut off from Redis."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
import trio

from lockd.postgres import TrioConnection
from sercha.domain.schedule import SlotOutcome
from sercha.testing import open_proxy
from tests.support.postgres import PostgresServer, free_port
from tests.support.redis import RedisServer
from tests.support.scheduler_rig import Candidate, Rig, open_rig

TTL = 2.0
TTL_OF_A_HANGING_SERVER = 6.0
"""The leader has half a second to end in, and asking a server that hangs to cancel took five."""
LONG_TTL = 60.0
"""Longer than a test waits: what is taken over meanwhile was released."""
SLACK = 3.0
"""Seconds beyond the promised moment, for machines with much else to do. The figures are printed."""
IDLE = 2.0
"""How long the server lets a fenced transaction stand still."""
THROWN_OUT = "terminating connection due to idle-in-transaction timeout"
BLOCKED = """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
             AND wait_event_type = 'Lock' AND position('INTO schedule_slot' IN query) > 0 AND pid <> pg_backend_pid()"""


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


async def test_one_of_two_schedules_until_its_orderly_end_hands_over_at_once(
    postgres_url: str, redis_or_none: RedisServer | None, tmp_path: Path
) -> None:
    """Fault 10. Cause: SIGTERM of the holder. The TTL is a minute; invariant I7."""
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=LONG_TTL) as rig:
        leader, follower, old = await _begin(rig)
        await rig.slots_pass(2, token=old)
        await rig.assert_each_slot_has_one_outcome()
        assert {slot.token for slot in await rig.slots()} == {old}
        assert leader.events_of("scheduler.ticked")
        assert not follower.events_of("scheduler.ticked", "scheduler.lease_acquired")
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
    ttl = 3.0  # so that the new one outlives the moment in which both stand still
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=ttl) as rig:
        leader, follower, old = await _begin(rig)
        stopped_at = await rig.now()
        leader.signal(signal.SIGSTOP)
        new = await rig.succession(old)
        await _report(rig, old, new, stopped_at, f"SIGSTOP, TTL {ttl} s")
        await trio.sleep(max(0.0, stopped_at + 2 * ttl - await rig.now()))
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
async def _slots_taken(url: str) -> AsyncGenerator[None]:
    """Take the keys of slots to come, in a transaction of its own: whoever records them waits for its end."""
    connection = await TrioConnection[Any].connect(url)
    try:
        await connection.execute(
            b"""INSERT INTO schedule_slot (schedule_id, slot, slot_last, outcome)
                SELECT id, slot, slot, 'paused' FROM schedule, generate_series(
                    next_slot + interval '1 s', next_slot + interval '60 s', interval '1 s') AS slot"""
        )
        yield
    finally:
        connection.finish()


async def test_a_holder_stopped_within_a_step_is_thrown_out_by_the_server(
    postgres_server: PostgresServer,
    postgres_url: str,
    redis_or_none: RedisServer | None,
    tmp_path: Path,
) -> None:
    """Fault 8. Cause: SIGSTOP in a fenced transaction, which keeps others from taking over. Invariants: I3, I7, I12."""
    async with open_rig(postgres_url, redis_or_none, tmp_path, ttl=TTL) as rig:
        leader, _, old = await _begin(rig)
        ends_before = postgres_server.log_text().count(THROWN_OUT)
        async with _slots_taken(postgres_url):
            session = await rig.wait_value(BLOCKED)
            leader.signal(signal.SIGSTOP)
            assert await rig.value(BLOCKED) == session
            before = [slot for slot in await rig.slots() if slot.token == old]
            expiry, released_at = await rig.expiry(), await rig.now()

        new = await rig.succession(old)

        await _report(rig, old, new, released_at, "SIGSTOP within a step")
        assert postgres_server.log_text().count(THROWN_OUT) == ends_before + 1
        first = min(slot.recorded_at for slot in await rig.slots() if slot.token == new)
        assert released_at + IDLE <= first <= max(expiry, released_at + IDLE) + SLACK
        with trio.fail_after(20):
            print(f"the old holder {await leader.wake()}")
        await rig.slots_pass(2, token=new)
        await rig.assert_each_slot_has_one_outcome()
        assert [slot for slot in await rig.slots() if slot.token == old] == before


async def _kill_redis(rig: Rig, redis: RedisServer, state: str) -> None:
    """SIGKILL the server, and wait until all candidates have said that they are in that state."""
    marks = [len(each.events) for each in rig.candidates]
    await trio.to_thread.run_sync(redis.kill)
    with trio.fail_after(30):
        for each, since in zip(rig.candidates, marks, strict=True):
            await each.wait_for("scheduler.lease_away", since=since, state=state)


async def test_without_redis_nobody_schedules_where_the_lease_is_required(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Fault 17. Cause: SIGKILL of Redis. Invariants: I7, I12."""
    async with open_rig(
        postgres_url, redis_server, tmp_path, ttl=TTL, SCHEDULER_LOCK_REQUIRED="true"
    ) as rig:
        _, _, old = await _begin(rig)
        await _kill_redis(rig, redis_server, "paused")
        paused_at = await rig.now()
        await trio.sleep(2.5)  # slots pass, and nothing happens
        restarted_at = await rig.now()
        await trio.to_thread.run_sync(redis_server.start)

        new = await rig.succession(old)

        print(
            f"Redis away, lease required: taken over {new / 1000 - restarted_at:.2f} s after its return"
        )
        slots = await rig.slots()
        assert not [slot for slot in slots if paused_at < slot.recorded_at < restarted_at]
        await rig.slots_pass(2, token=new)
        await rig.assert_each_slot_has_one_outcome()


async def test_without_redis_all_go_on_where_the_lease_is_not_required(
    postgres_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Fault 17, with the key of each slot as the only protection. Invariant: I7."""
    async with open_rig(
        postgres_url, redis_server, tmp_path, ttl=TTL, SCHEDULER_LOCK_REQUIRED="false"
    ) as rig:
        _, _, old = await _begin(rig)
        killed_at = await rig.now()
        await _kill_redis(rig, redis_server, "unlocked")
        await rig.slots_pass(3, token=None)
        await trio.to_thread.run_sync(redis_server.start)

        await rig.succession(old)

        await rig.assert_each_slot_has_one_outcome()
        slots = [slot for slot in await rig.slots() if slot.recorded_at > killed_at]
        late = max(slot.recorded_at - slot.first.timestamp() for slot in slots)
        print(f"Redis away, lease not required: no slot was later than {late:.2f} s")


async def test_three_processes_without_any_lease_enqueue_each_slot_once(
    postgres_url: str, tmp_path: Path
) -> None:
    """Nobody listens where Redis should be. Invariant: I7."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with open_rig(
        postgres_url, None, tmp_path, ttl=TTL, REDIS_URL=nowhere, SCHEDULER_LOCK_REQUIRED="false"
    ) as rig:
        await rig.add_one_of_each()
        await rig.start(3)
        with trio.fail_after(60):
            for each in rig.candidates:
                await each.wait_for("scheduler.ticked")
        await rig.slots_pass(3, token=None)

        outcomes = await rig.assert_each_slot_has_one_outcome()
        ticks = [len(each.events_of("scheduler.ticked")) for each in rig.candidates]
        print(f"steps of each: {ticks}; {dict(outcomes)}")
        assert outcomes[SlotOutcome.ENQUEUED] > 3
        assert {slot.token for slot in await rig.slots()} == {None}


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_leader_outlives_a_postgres_that_hangs_and_schedules_again(
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    direction: Literal["up", "down"],
    seed: int,
) -> None:
    """Cause: PostgreSQL, with the lease in it, swallows bytes one way past the TTL. Invariants: I3, I12."""
    database = urlsplit(postgres_url).path.removeprefix("/")
    direct = postgres_server.url_for(database, tcp=True)
    async with (
        open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy,
        open_rig(postgres_url, None, tmp_path, ttl=TTL_OF_A_HANGING_SERVER) as rig,
    ):
        await rig.add_one_of_each()
        proxied = direct.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        [leader] = await rig.start(1, DATABASE_URL=proxied)
        with trio.fail_after(30):
            await leader.wait_for("scheduler.ticked")
        since = len(leader.events)
        proxy.black_hole(direction)
        with trio.fail_after(60):
            await leader.wait_for("scheduler.lease_lost", since=since)
        proxy.heal()
        since = len(leader.events)
        with trio.fail_after(60):
            await leader.wait_for("scheduler.ticked", since=since)
        await rig.assert_each_slot_has_one_outcome()
