"""`lockd.hold` on the reference store: what a body sees when things go wrong."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

import lockd
from lockd import EventKind, LeaseLost, LossReason
from tests.support.leases import (
    Diary,
    FaultyStore,
    SleepyClock,
    delayed,
    lost_reply,
    lost_request,
    refused,
)

TTL = 60.0
TRUST = 54.4


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def lost_after(store: FaultyStore, **options: Any) -> tuple[float, LossReason]:
    """Hold until the lease is lost; how long that took, and why."""
    begun = trio.current_time()
    with trio.fail_after(1_000), pytest.raises(LeaseLost) as caught:
        async with lockd.hold(store, "x", ttl=TTL, **options):
            begun = trio.current_time()
            await trio.sleep_forever()
    return trio.current_time() - begun, caught.value.reason


async def test_a_lease_is_renewed_for_as_long_as_its_body_runs(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    diary = Diary()
    async with lockd.hold(store, "x", ttl=TTL, observe=diary) as lease:
        await trio.sleep(3_600)
        lease.check()
        assert 0 < lease.remaining() <= TRUST
        statistics = lease.statistics()

    assert 160 <= statistics.renewals <= 200
    assert (statistics.state, statistics.token) == ("held", 1)
    assert diary.kinds == [EventKind.ACQUIRED, EventKind.RELEASED]
    assert (await store.inspect("x")).holder is None
    with pytest.raises(LeaseLost) as caught:
        lease.check()
    assert caught.value.reason is LossReason.RELEASED


async def test_unanswered_renewals_cancel_the_body_before_the_server_forgets(
    autojump_clock: MockClock,
    store: FaultyStore,
) -> None:
    store.always["renew"] = lost_request
    diary = Diary()

    seconds, reason = await lost_after(store, observe=diary)

    assert seconds == pytest.approx(TRUST, abs=0.01)
    assert reason is LossReason.EXPIRED
    assert diary.kinds.count(EventKind.RENEW_FAILED) >= 4
    assert (await store.inspect("x")).holder is None  # freed for the next one


async def test_no_other_holder_begins_before_the_first_one_was_cancelled(
    autojump_clock: MockClock,
    store: FaultyStore,
) -> None:
    store.always["renew"] = refused
    store.always["release"] = refused
    ended: list[float] = []

    async def first(*, task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(LeaseLost):
            async with lockd.hold(store, "x", ttl=TTL):
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        await nursery.start(first)
        async with lockd.hold(store, "x", ttl=TTL):
            begun = trio.current_time()

    assert begun - ended[0] >= 5


async def test_a_renewal_that_fails_and_then_works_changes_nothing(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    store.faults["renew"] = [lost_request, refused, None, lost_reply]

    async with lockd.hold(store, "x", ttl=TTL) as lease:
        await trio.sleep(200)
        lease.check()

    assert lease.statistics().renew_failures == 3


async def test_a_renewal_that_succeeds_too_late_is_a_loss(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    """The answer comes while the process stands still; its scope had been cancelled at the deadline."""
    store.always["renew"] = delayed(TTL, ignores_cancel=True)

    seconds, reason = await lost_after(store)

    assert reason in (LossReason.LATE, LossReason.EXPIRED)
    assert seconds >= TRUST
    assert (await store.inspect("x")).holder is None


async def test_losing_is_for_good(autojump_clock: MockClock, store: FaultyStore) -> None:
    with pytest.raises(LeaseLost):
        async with lockd.hold(store, "x", ttl=TTL) as lease:
            lease.lose(LossReason.TAKEN)
            lease.extend(lease.terms.trusted_until(lease.sent))
            lease.lose(LossReason.GONE)
            with pytest.raises(LeaseLost) as caught:
                lease.check()
            await trio.lowlevel.checkpoint()

    assert caught.value.reason is LossReason.TAKEN
    assert lease.lost.is_set()
    assert lease.remaining() == 0


@pytest.mark.parametrize(
    ("replacement", "reason"), [(uuid4(), LossReason.TAKEN), (None, LossReason.GONE)]
)
async def test_a_lease_that_is_not_ours_any_more_cancels_the_body_at_the_next_renewal(
    autojump_clock: MockClock, store: FaultyStore, replacement: Any, reason: LossReason
) -> None:
    async def interfere() -> None:
        await trio.sleep(1)
        store.forget()
        if replacement:
            await store.acquire("x", replacement, 500, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interfere)
        seconds, found = await lost_after(store)

    assert found is reason
    assert seconds <= TTL / 3 * 1.1
    assert (await store.inspect("x")).holder == replacement  # and is not released by us


async def test_a_machine_that_slept_finds_its_lease_lost(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    clock = SleepyClock()

    async def sleep_of_the_machine() -> None:
        await trio.sleep(10)
        clock.slept = 3_600

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_of_the_machine)
        seconds, reason = await lost_after(store, clock=clock)

    assert reason is LossReason.SUSPENDED
    assert seconds <= 11.5


async def test_a_check_after_waking_up_needs_no_turn_of_the_loop(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    clock = SleepyClock()
    with pytest.raises(LeaseLost) as caught:
        async with lockd.hold(store, "x", ttl=TTL, clock=clock) as lease:
            clock.slept = TRUST
            lease.check()

    assert caught.value.reason is LossReason.SUSPENDED


async def test_an_acquisition_whose_answer_was_lost_is_recognised_and_counts_from_its_start(
    autojump_clock: MockClock,
    store: FaultyStore,
) -> None:
    store.faults["acquire"] = [lost_reply]
    begun = trio.current_time()

    async with lockd.hold(store, "x", ttl=TTL) as lease:
        waited = trio.current_time() - begun
        assert waited >= 5
        assert lease.remaining() == pytest.approx(TRUST - waited)

    assert store.calls.count("acquire") == 2


async def test_a_request_that_is_still_being_carried_out_is_waited_for(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    """A slow commit: no answer in time, then "busy" with nobody as the holder, and then it is ours."""
    arrived = trio.Event()

    async def slow_commit(request: Any) -> Any:
        nursery.start_soon(carry_out, request)
        await trio.sleep_forever()

    async def carry_out(request: Any) -> None:
        await trio.sleep(8)
        await request()
        arrived.set()

    async def blocked(request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return await request() if arrived.is_set() else lockd.Busy(None, 0.0)

    store.faults["acquire"] = [slow_commit]
    store.always["acquire"] = blocked
    begun = trio.current_time()
    async with trio.open_nursery() as nursery, lockd.hold(store, "x", ttl=TTL) as lease:
        waited = trio.current_time() - begun
        assert lease.remaining() == pytest.approx(TRUST - waited)

    assert waited < 15  # not a TTL for our own lease


async def test_what_an_unanswered_request_took_later_is_freed_when_another_holds_it(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    other = uuid4()

    async def lost_to_another(request: Any) -> Any:
        await store.acquire("x", other, 8, 0)
        await trio.sleep_forever()

    store.faults["acquire"] = [lost_to_another]
    async with lockd.hold(store, "x", ttl=TTL):
        pass

    assert store.calls.count("release") == 2


@pytest.mark.parametrize("fault", [lost_reply, lost_request])
async def test_a_fence_without_an_answer_is_read_and_not_moved_again(
    autojump_clock: MockClock, store: FaultyStore, fault: Any
) -> None:
    store.faults["fence"] = [fault]

    async with lockd.hold(store, "x", ttl=TTL) as lease:
        row = await store.seen("x")
        assert (row.holder, row.token) == (lease.holder, lease.token) == (lease.holder, 1)

    assert store.calls.count("fence") == (1 if fault is lost_reply else 2)
    assert store.calls.count("acquire") == (1 if fault is lost_reply else 2)


async def test_whoever_slept_before_the_fence_does_not_evict_the_successor(
    autojump_clock: MockClock,
    store: FaultyStore,
) -> None:
    """The first one takes the lease, stands still until it has expired, and only then comes to the fence."""
    store.faults["fence"] = [delayed(TTL + 5, ignores_cancel=True)]
    tokens: list[int] = []

    async def contend(delay: float) -> None:
        await trio.sleep(delay)
        async with lockd.hold(store, "x", ttl=TTL) as lease:
            tokens.append(lease.token)
            await trio.sleep(30)
            lease.check()
            async with lease.fenced(None):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(contend, 0)
        nursery.start_soon(contend, 1)

    assert tokens == [1, 2]


async def test_the_fence_stops_a_stale_actor_and_says_so(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    diary = Diary()
    with pytest.raises(LeaseLost) as caught:
        async with lockd.hold(store, "x", ttl=TTL, observe=diary) as lease:
            async with lease.fenced("anything") as value:
                assert value == "anything"
            await store.fence("x", uuid4(), lease.token)
            async with lease.fenced(None):
                raise AssertionError("it let us in")

    assert caught.value.reason is LossReason.FENCED
    assert EventKind.FENCE_REFUSED in diary.kinds
    assert lease.statistics().fence_refusals == 1


async def test_a_takeover_waits_for_a_fenced_transaction(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    order: list[str] = []

    async def take_over(token: int) -> None:
        await store.fence("x", uuid4(), token)
        order.append("taken over")

    async with (
        trio.open_nursery() as nursery,
        lockd.hold(store, "x", ttl=TTL) as lease,
        lease.fenced(None),
    ):
        nursery.start_soon(take_over, lease.token)
        await trio.testing.wait_all_tasks_blocked()
        order.append("committed")

    assert order == ["committed", "taken over"]


async def test_taken_is_said_at_once_to_who_does_not_want_to_wait(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    async with lockd.hold(store, "x", ttl=TTL) as lease:
        with pytest.raises(lockd.LeaseTaken) as caught:
            async with lockd.hold(store, "x", ttl=TTL, on_busy="raise"):
                raise AssertionError("two of us")

    assert caught.value.holder == lease.holder
    assert caught.value.remaining == pytest.approx(TTL)


async def test_a_store_that_never_answers_is_given_up_after_the_ttl(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    store.always["acquire"] = refused
    begun = trio.current_time()

    with pytest.raises(lockd.StoreUnreachable):
        async with lockd.hold(store, "x", ttl=TTL):
            raise AssertionError("held without a store")

    assert TTL - 3 <= trio.current_time() - begun <= TTL + 5
    assert store.calls[-1] == "release"  # one of the requests may have arrived


async def test_leading_goes_on_after_everything_that_passes(
    autojump_clock: MockClock, store: FaultyStore
) -> None:
    store.faults["acquire"] = [refused] * 60
    terms: list[int] = []

    async def run(lease: lockd.Lease) -> None:
        terms.append(lease.token)
        if len(terms) == 2:
            store.forget()
            await trio.sleep_forever()
        if len(terms) == 5:
            raise KeyError("an error of our own ends it")

    with trio.fail_after(1_000), pytest.raises(KeyError):
        await lockd.lead(store, "x", run, ttl=TTL)

    assert terms == [1, 2, 3, 4, 5]
