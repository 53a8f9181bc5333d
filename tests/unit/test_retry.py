"""`retrying`: bounded, jittered, and only for what may pass."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import trio
import trio.testing

from sercha.errors import Rejected, Transient, Unavailable
from sercha.services.retry import outlasting, retrying


class Flaky:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls_at: list[float] = []

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.calls_at.append(trio.current_time())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_transient_errors_are_tried_again_after_growing_pauses(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    call = Flaky(*[Unavailable("away")] * 6)

    assert await retrying(call, attempts=7, base=1, cap=8, random=Random(seed)) == "answer"

    times = call.calls_at
    pauses = [after - before for before, after in itertools.pairwise(times)]
    for pause, longest in zip(pauses, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest / 2 <= pause <= longest


async def test_the_last_error_leaves_when_the_attempts_are_used_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    call = Flaky(Transient("one"), Transient("two"), Transient("three"))
    told: list[tuple[int, str]] = []

    with pytest.raises(Transient, match="three"):
        await retrying(call, attempts=3, on_retry=lambda n, error, _: told.append((n, str(error))))

    assert told == [(1, "one"), (2, "two")]
    assert len(call.calls_at) == 3


async def test_retry_after_of_the_error_is_respected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    call = Flaky(Transient("busy", retry_after=60))

    await retrying(call)

    assert call.calls_at[1] - call.calls_at[0] == pytest.approx(60)


async def test_other_errors_are_not_tried_again() -> None:
    call = Flaky(Rejected("never"))

    with pytest.raises(Rejected):
        await retrying(call)

    assert len(call.calls_at) == 1


async def test_cancellation_ends_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    call = Flaky(*[Unavailable("away")] * 100)

    with trio.move_on_after(20) as scope:
        await retrying(call, attempts=None, base=1, cap=4)

    assert scope.cancelled_caught
    assert 5 <= len(call.calls_at) <= 15


AWAY = ("away", "database-unavailable")


async def test_an_outage_within_the_bound_is_hidden(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    errors = [Unavailable(AWAY[0], code=AWAY[1], retry_after=2.0) for _ in range(5)]
    call = Flaky(*errors)

    assert await outlasting(call, seconds=3.0, random=Random(seed)) == "answer"

    assert len(call.calls_at) == 6
    assert call.calls_at[-1] - call.calls_at[0] < 3.0


async def test_a_longer_outage_is_told_within_the_bound(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    call = Flaky(*[Unavailable(AWAY[0], code=AWAY[1]) for _ in range(1_000)])

    with pytest.raises(Unavailable):
        await outlasting(call, seconds=3.0, random=Random(seed))

    assert trio.current_time() - call.calls_at[0] <= 3.0
    assert len(call.calls_at) > 5


@pytest.mark.parametrize(
    "error", [Unavailable("full", code="pool-exhausted"), Transient("busy"), Rejected("no")]
)
async def test_what_is_no_outage_of_the_database_is_told_at_once(error: Exception) -> None:
    call = Flaky(error)

    with pytest.raises(type(error)):
        await outlasting(call)

    assert len(call.calls_at) == 1
