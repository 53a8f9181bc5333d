"""Each check against a history with one thing wrong: it must be found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.checks import violations_of
from tests.simulation.history import Event, History, What

Plant = Callable[[History], None]


def event(at: float, what: What, who: str, holder: str = "", **facts: Any) -> Event:
    """Make an event; *who* is a process, with ``#`` and a number for one of its leases."""
    process, _, number = who.partition("#")
    return Event(at, what, process, holder, int(number or 0), facts)


def lease(at: float, who: str, holder: str, token: int, lsn: int) -> list[Event]:
    """Tell of one lease that is held for 3 seconds, renewed once and released: TTL 6, margin 0.5."""
    process = who.partition("#")[0]

    def trust(sent: float) -> Event:
        return event(
            sent + 0.02, What.TRUST, who, holder, monotonic=sent + 5.44, boottime=sent + 5.44
        )

    def entry(moment: float, op: str) -> Event:
        facts = {"op": op, "by": holder, "expires": moment + 6, "ttl": 6.0}
        return event(moment, What.ENTRY, "redis", holder, **facts)

    return [
        event(at, What.SENT, process, holder, op="acquire"),
        entry(at + 0.01, "acquire"),
        event(at + 0.02, What.GRANTED, who, holder),
        trust(at),
        event(at + 0.03, What.FENCE, "postgres", holder, op="fence", token=token, lsn=lsn),
        event(at + 0.04, What.MOVE, who, holder, old="pending", new="held", loss=""),
        event(at + 0.04, What.OPENED, who, holder),
        event(at + 1.0, What.STEP, who, holder, shielded=False),
        event(at + 1.0, What.CHECKED, who, holder),
        event(at + 1.1, What.EFFECT, "postgres", holder, token=token, slots=(lsn,), lsn=lsn + 1),
        event(at + 2.0, What.SENT, process, holder, op="renew"),
        entry(at + 2.01, "renew"),
        event(at + 2.02, What.TOLD, process, holder, answer="renewed"),
        trust(at + 2.0),
        event(at + 2.5, What.STEP, who, holder, shielded=False),
        event(at + 3.0, What.CLOSED, who, holder),
        event(at + 3.0, What.MOVE, who, holder, old="held", new="releasing", loss=""),
        event(at + 3.0, What.SENT, process, holder, op="release"),
        event(at + 3.01, What.REMOVED, "redis", holder, op="release", by=holder),
        event(at + 3.02, What.MOVE, who, holder, old="releasing", new="ended", loss=""),
    ]


def sound() -> History:
    """Tell of three leases one after another, and of quiet before the last."""
    return History(
        [
            event(0, What.BEGIN, "world", store="split", ttl=6.0, drift=0.01, outside=()),
            *lease(1, "n1.1#1", "h1", token=10, lsn=0),
            *lease(5, "n2.1#1", "h2", token=11, lsn=2),
            event(8.5, What.QUIET, "world", bound=10.0, work=5.0),
            *lease(9, "n1.1#2", "h3", token=12, lsn=4),
            event(10.2, What.SERVED, "world"),
            event(
                19,
                What.LEDGER,
                "postgres",
                next_slot=2,
                outcomes={0: 10, 1: 11},
                tasks={0: 1, 1: 1},
            ),
            event(20, What.END, "world", left=()),
        ]
    )


def index(history: History, what: What, holder: str, number: int = 0) -> int:
    """Return where the event of this kind and holder is, the *number*-th of them."""
    return [at for at, each in enumerate(history) if each.what is what and each.holder == holder][
        number
    ]


def change(history: History, what: What, holder: str, number: int = 0, **facts: Any) -> None:
    """Change facts of an event, or its time by ``at``."""
    place = index(history, what, holder, number)
    old = history[place]
    at = facts.pop("at", old.at)
    history[place] = old._replace(at=at, facts=old.facts | facts)
    history.sort(key=lambda each: each.at)


def insert(history: History, new: Event) -> None:
    """Add an event at its time, after others of that time."""
    history.append(new)
    history.sort(key=lambda each: each.at)


def remove(history: History, what: What, holder: str, number: int = 0) -> None:
    """Take an event away."""
    del history[index(history, what, holder, number)]


def two_at_once(history: History) -> None:
    """The first body goes on while the second has begun; its trust is said to last."""
    change(history, What.CLOSED, "h1", at=8.4)
    for what in (What.SENT, What.REMOVED, What.MOVE):
        change(history, what, "h1", -1, at=8.45)
    change(history, What.MOVE, "h1", -1, at=8.46)
    change(history, What.ENTRY, "h1", 1, expires=12.0)
    change(history, What.TRUST, "h1", 1, monotonic=8.44, boottime=8.44)


def two_at_once_unfenced(history: History) -> None:
    """The same, and the second has not come as far as the fence."""
    two_at_once(history)
    remove(history, What.FENCE, "h2")
    remove(history, What.EFFECT, "h2")


def trusts_too_long(history: History) -> None:
    change(history, What.TRUST, "h1", 1, monotonic=8.6, boottime=8.6)


def trusts_without_an_entry(history: History) -> None:
    for _ in range(2):
        remove(history, What.ENTRY, "h1")


def short_entry(history: History) -> None:
    change(history, What.ENTRY, "h3", 1, expires=16.9)
    change(history, What.TRUST, "h3", 1, monotonic=16.0, boottime=16.0)


def trusts_again(history: History) -> None:
    """The first trust is made to end before the renewal."""
    change(history, What.TRUST, "h1", 0, monotonic=2.9, boottime=2.9)


def fenced_off(history: History) -> None:
    """Somebody who slept moves the fence while its holder trusts."""
    insert(history, event(10.5, What.FENCE, "postgres", "h2", op="fence", token=13, lsn=6))


def runs_on(history: History) -> None:
    insert(history, event(16.5, What.STEP, "n1.1#2", "h3", shielded=False))
    for what in (What.CLOSED, What.SENT, What.REMOVED):
        change(history, what, "h3", -1, at=16.6)
    for number in (-2, -1):
        change(history, What.MOVE, "h3", number, at=16.7)
    change(history, What.SENT, "h3", -1, at=16.8)


def let_through(history: History) -> None:
    runs_on(history)
    change(history, What.STEP, "h3", -1, shielded=True)
    insert(history, event(16.5, What.CHECKED, "n1.1#2", "h3"))


def runs_on_after_it_was_told(history: History) -> None:
    change(history, What.TOLD, "h1", 0, answer="gone")


def runs_on_after_its_release(history: History) -> None:
    insert(history, event(4.2, What.STEP, "n1.1#1", "h1", shielded=True))


def older_token(history: History) -> None:
    """A later acquisition has the smaller token."""
    change(history, What.FENCE, "h3", token=9)
    change(history, What.EFFECT, "h3", token=9)


def token_of_another(history: History) -> None:
    """What the fence says was lost by a failover, and the effect came through all the same."""
    change(history, What.FENCE, "h3", token=12, lsn=4)
    insert(history, event(9.5, What.FAILOVER, "postgres", lsn=4))


def stale_effect(history: History) -> None:
    insert(history, event(9.5, What.EFFECT, "postgres", "h2", token=11, slots=(7,), lsn=6))


def effect_after_eviction(history: History) -> None:
    insert(history, event(9.5, What.FENCE, "postgres", op="evict", token=13, lsn=6))
    # The holder's promise is broken as well, by the second half of the eviction.
    insert(history, event(9.6, What.REMOVED, "redis", "h3", op="evict", by=""))


def foreign_release(history: History) -> None:
    insert(history, event(9.5, What.REMOVED, "redis", "h3", op="release", by="h1"))


def foreign_renewal(history: History) -> None:
    change(history, What.ENTRY, "h3", 1, by="h1")


def lost_slot(history: History) -> None:
    change(history, What.LEDGER, "", outcomes={0: 10}, tasks={0: 1})


def double_task(history: History) -> None:
    change(history, What.LEDGER, "", tasks={0: 1, 1: 2})


def nobody_leads(history: History) -> None:
    change(history, What.QUIET, "", bound=0.4)


def work_left_undone(history: History) -> None:
    remove(history, What.SERVED, "")


def something_left(history: History) -> None:
    change(history, What.END, "", left=("lease",))


def not_released(history: History) -> None:
    remove(history, What.REMOVED, "h1")


def wrong_error(history: History) -> None:
    insert(history, event(4.5, What.CRASH, "n1.1", error="ExceptionGroup"))


def loss_unsaid(history: History) -> None:
    change(history, What.MOVE, "h1", 1, new="lost", loss="gone")
    insert(history, event(4.2, What.LEFT, "n1.1", error=""))


PLANTED: list[tuple[Plant, set[str]]] = [
    (two_at_once, {"I1"}),
    (two_at_once_unfenced, {"I1"}),
    (fenced_off, {"I1"}),
    (older_token, {"I2"}),
    (token_of_another, {"I2"}),
    (stale_effect, {"I3"}),
    (effect_after_eviction, {"I3"}),
    (trusts_too_long, {"I4"}),
    (trusts_without_an_entry, {"I4"}),
    (short_entry, {"I4"}),
    (trusts_again, {"I4"}),
    (runs_on, {"I4"}),
    (let_through, {"I4"}),
    (runs_on_after_it_was_told, {"I4"}),
    (runs_on_after_its_release, {"I5"}),
    (foreign_release, {"I6"}),
    (foreign_renewal, {"I6"}),
    (lost_slot, {"I7"}),
    (double_task, {"I7"}),
    (nobody_leads, {"I12"}),
    (work_left_undone, {"I12"}),
    (something_left, {"I13"}),
    (not_released, {"I13"}),
    (wrong_error, {"errors"}),
    (loss_unsaid, {"errors"}),
]


def found(history: History) -> set[str]:
    return {violation.invariant for violation in violations_of(history)}


def test_a_sound_history_has_no_violation() -> None:
    assert violations_of(sound()) == []


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=lambda it: getattr(it, "__name__", ""))
def test_a_planted_violation_is_found(plant: Plant, expected: set[str]) -> None:
    history = sound()

    plant(history)

    assert found(history) == expected


def test_two_may_believe_when_the_server_has_forgotten_a_lease() -> None:
    history = sound()
    two_at_once(history)

    insert(history, event(4.9, What.BREACH, "world", why="flush"))

    assert found(history) == set()


def test_a_holder_may_be_fenced_off_when_a_failover_lost_his_fence() -> None:
    history = sound()
    fenced_off(history)

    insert(history, event(10.4, What.FAILOVER, "postgres", lsn=4))

    assert found(history) == set()


def test_two_may_believe_when_a_clock_is_out_of_bounds() -> None:
    history = sound()
    two_at_once(history)

    history[0].facts["outside"] = ("n1",)

    assert found(history) == set()


def test_what_was_ready_when_a_stopped_process_goes_on_may_be_delivered() -> None:
    history = sound()
    runs_on(history)

    insert(history, event(16.4, What.STOPPED, "n1.1", why="process stopped", seconds=0.1))
    insert(history, event(16.5, What.RESUMED, "n1.1"))

    assert found(history) == set()


def test_trust_lasts_longer_on_the_clock_that_sleeps_but_not_on_the_other() -> None:
    history = sound()
    runs_on(history)

    insert(history, event(14.0, What.STOPPED, "n1.1", why="suspended", seconds=2.0))
    insert(history, event(16.0, What.RESUMED, "n1.1"))

    assert found(history) == set()  # it takes until the next tick to be noticed
    change(history, What.STEP, "h3", -1, at=17.5)
    assert "I4" in found(history)


def test_whoever_was_disturbed_need_not_have_released() -> None:
    history = sound()
    not_released(history)

    insert(history, event(3.9, What.FAULT, "world", "h1", kind="reply lost"))

    assert found(history) == set()
