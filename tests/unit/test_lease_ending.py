"""How the block of `lockd.hold` ends: what leaves it, in which order, and what is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

import lockd
from lockd import EventKind, LeaseLost, LossReason, MemoryStore
from tests.support.leases import (
    Diary,
    FaultyStore,
    cancelled_at_every_step,
    lost_reply,
    lost_request,
)

TTL = 60.0


class Broken(Exception):
    pass


async def test_an_error_of_the_body_leaves_as_itself(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    with pytest.raises(Broken):
        async with lockd.hold(store, "x", ttl=TTL):
            raise Broken

    assert (await store.inspect("x")).holder is None


async def test_an_error_of_the_body_comes_before_the_loss(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    with pytest.raises(Broken):
        async with lockd.hold(store, "x", ttl=TTL):
            store.forget()
            try:
                await trio.sleep_forever()
            finally:
                raise Broken


async def test_a_loss_that_tasks_of_the_body_found_leaves_in_no_group(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()

    async def act(lease: lockd.Lease) -> None:
        await trio.sleep(1)
        lease.check()

    with pytest.raises(LeaseLost):
        async with lockd.hold(store, "x", ttl=TTL) as lease, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(act, lease)
            lease.lose(LossReason.TAKEN)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope(shield=True):
                await trio.sleep(2)


async def test_a_loss_in_a_cancelled_body_is_no_error_of_its_own(
    autojump_clock: MockClock,
) -> None:
    async def lose_late(lease: lockd.Lease) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        lease.lose(LossReason.TAKEN)
        lease.check()

    with trio.move_on_after(1) as scope:
        async with (
            lockd.hold(MemoryStore(), "x", ttl=TTL) as lease,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(lose_late, lease)
            nursery.start_soon(trio.sleep_forever)

    assert scope.cancelled_caught


async def test_errors_beside_the_loss_stay_a_group(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise Broken

    with pytest.RaisesGroup(Broken):
        async with lockd.hold(MemoryStore(), "x", ttl=TTL) as lease:
            lease.lose(LossReason.TAKEN)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)


async def test_an_outer_cancellation_stays_one_and_frees_the_lease(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    for lose_first in (False, True):
        with trio.move_on_after(100) as scope:
            async with lockd.hold(store, "x", ttl=TTL):
                if lose_first:
                    with trio.CancelScope(shield=True):
                        store.forget()
                        await trio.sleep(200)  # lost and cancelled, both
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert (await store.inspect("x")).holder is None


async def test_the_lease_is_kept_until_a_cancelled_body_has_ended(
    autojump_clock: MockClock,
) -> None:
    """Cancelled from outside, the body cleans up for five minutes: all that time nobody else may begin."""
    store = MemoryStore()
    with trio.move_on_after(1):
        async with lockd.hold(store, "x", ttl=TTL) as lease:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(300)
                    assert (await store.inspect("x")).holder == lease.holder

    assert (await store.inspect("x")).holder is None


async def test_everything_of_the_body_ends_before_the_release(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    order: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            order.append("child ended")

    with trio.move_on_after(5):
        async with lockd.hold(store, "x", ttl=TTL), trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()
    order.append(store.calls[-1])

    assert order == ["child ended", "release"]
    assert store.calls.count("release") == 1


async def test_a_body_that_ends_too_late_has_lost(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    store.always["renew"] = lost_request
    with pytest.raises(LeaseLost) as caught:
        async with lockd.hold(store, "x", ttl=TTL):
            with trio.CancelScope(shield=True):
                await trio.sleep(TTL)

    assert caught.value.reason is LossReason.EXPIRED


@pytest.mark.parametrize("fault", [lost_reply, lost_request])
async def test_a_release_without_an_answer_ends_soon_and_costs_one_ttl(
    autojump_clock: MockClock, fault: Any
) -> None:
    store, diary = FaultyStore(), Diary()
    store.always["release"] = fault
    async with lockd.hold(store, "x", ttl=TTL, observe=diary):
        ended = trio.current_time()

    assert trio.current_time() - ended == pytest.approx(2)
    assert diary.kinds[-1] is EventKind.RELEASE_FAILED
    assert (await store.inspect("x")).holder is None or fault is lost_request


@pytest.mark.parametrize("part", ["acquire", "hold", "release", "wait"])
async def test_cancelled_at_any_step_nothing_stays_taken(
    autojump_clock: MockClock, part: str
) -> None:
    """For each step k of the acquisition, of a renewal, of the release and of waiting: cancel after it."""
    store = MemoryStore()

    async def act() -> None:
        try:
            async with lockd.hold(store, "x", ttl=TTL) as lease:
                if part != "acquire":
                    await trio.sleep(25 if part == "hold" else 0)
                lease.check()
        finally:
            with trio.CancelScope(shield=True):
                assert (await store.inspect("x")).holder is None

    async def wait_for_another() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(occupy)
            try:
                async with lockd.hold(store, "y", ttl=TTL):
                    pass
            finally:
                nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert (await store.inspect("y")).holder is None

    async def occupy(*, task_status: trio.TaskStatus[None]) -> None:
        async with lockd.hold(store, "y", ttl=TTL):
            task_status.started()
            await trio.sleep(7)

    steps = await cancelled_at_every_step(wait_for_another if part == "wait" else act)

    print(f"{part}: {steps} steps")
    assert steps >= 5


async def test_two_hundred_waiters_and_one_release_make_no_storm(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    winners: list[int] = []
    done = trio.Event()

    async def wait(number: int) -> None:
        async with lockd.hold(store, "x", ttl=TTL):
            winners.append(number)
            done.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with lockd.hold(store, "x", ttl=TTL):
            for number in range(200):
                nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(2)  # nobody polls so soon
            before = store.attempts
        await done.wait()
        await trio.sleep(1)
        attempts = store.attempts - before
        nursery.cancel_scope.cancel()

    assert len(winners) == 1
    assert attempts <= 200


async def test_a_blocked_loop_is_told_from_a_thread() -> None:
    """Real time: the body computes past its deadline, and past the margin too."""
    diary, store = Diary(), MemoryStore()
    with pytest.raises(LeaseLost):
        async with lockd.hold(store, "x", ttl=1, observe=diary):
            await trio.lowlevel.checkpoint()  # the watchdog begins to watch
            time.sleep(1.2)  # noqa: ASYNC251  a loop that hangs is what is tried
            assert EventKind.OVERRAN in diary.kinds


async def test_a_body_in_time_is_not_barked_at() -> None:
    diary = Diary()
    async with lockd.hold(MemoryStore(), "x", ttl=1, observe=diary):
        await trio.sleep(1.5)

    assert diary.kinds == [EventKind.ACQUIRED, EventKind.RELEASED]


def test_an_overrun_can_end_the_process() -> None:
    program = (
        "import time, trio, lockd\n"
        "async def main():\n"
        "    async with lockd.hold(lockd.MemoryStore(), 'x', ttl=1, on_overrun='exit'):\n"
        "        await trio.sleep(0)\n"
        "        time.sleep(30)\n"
        "trio.run(main)\n"
    )
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )

    assert ended.returncode == 75
    assert "has not ended in time" in ended.stderr
    assert time.monotonic() - begun < 20
