"""The checker of queue histories: a good history passes, and each rule is seen failing on a bad one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.queue.checks import Rule, check
from tests.support.queue.history import (
    Absence,
    Effect,
    Enqueue,
    History,
    Move,
    Row,
    Run,
    Schedule,
    Slot,
)

A, B, C, D, E = "task-a", "task-b", "task-c", "task-d", "task-e"


def move(seq: int, task: str, before: str | None, after: str, attempt: int, owner: str) -> Move:
    tries = (attempt - 1, attempt) if after == "running" else (attempt, attempt)
    return Move(seq, task, before, after, attempt, owner, *tries)


def good_history() -> History:
    """One task that went well, one whose first worker was stopped for too long, one dead, one merged."""
    return History(
        enqueues=(
            Enqueue(1, 0.0, task=A, concurrency_key="k"),
            Enqueue(2, 0.0, task=B, delay=1.0, concurrency_key="k"),
            Enqueue(3, 0.0, task=C, tries_max=2),
            Enqueue(4, 0.0, task=D),
            Enqueue(5, 0.0),
        ),
        runs=(
            Run(A, 1, "w1", 1, 0.1, 0.9, "returned"),
            Run(B, 1, "w1", 1, 1.1, 9.0, "cancelled"),
            Run(B, 2, "w2", 2, 5.0, 8.0, "returned"),
            Run(C, 1, "w1", 1, 0.2, 0.3, "failed"),
            Run(C, 2, "w2", 2, 0.4, 0.5, "failed"),
        ),
        absences=(Absence(1, 2.0, 8.9),),
        rows=(
            Row(A, 1, "completed"),
            Row(B, 2, "completed", attempt=2),
            Row(C, 3, "dead", attempt=2, tries=2, tries_max=2),
            Row(D, 4, "cancelled", attempt=0, last_error=f"merged into task {A}"),
            Row(E, None, "completed"),
        ),
        moves=(
            move(1, A, None, "queued", 0, ""),
            move(2, A, "queued", "running", 1, "w1"),
            move(4, A, "running", "completed", 1, "w1"),
            move(5, B, "queued", "running", 1, "w1"),
            move(6, B, "running", "queued", 1, "w1"),
            move(7, B, "queued", "running", 2, "w2"),
            move(9, B, "running", "completed", 2, "w2"),
            move(10, C, "queued", "running", 1, "w1"),
            move(11, C, "running", "queued", 1, "w1"),
            move(12, C, "queued", "running", 2, "w2"),
            move(13, C, "running", "dead", 2, "w2"),
        ),
        effects=(Effect(3, A, 1, "w1"), Effect(8, B, 2, "w2")),
        slots=(Slot("s", 10, 10, "enqueued", E), Slot("s", 12, 16, "coalesced", E)),
        schedules=(Schedule("s", 2, 10, 18),),
    )


def with_rows(history: History, **changes: Row | None) -> History:
    """Put rows in place of those of tasks a, b, c or d; None takes one away."""
    rows = {row.task: row for row in history.rows}
    for name, row in changes.items():
        rows.pop(f"task-{name}")
        if row is not None:
            rows[f"task-{name}"] = row
    return replace(history, rows=tuple(rows.values()))


def test_a_good_history_breaks_no_rule() -> None:
    verdict = check(good_history())

    assert verdict.violations == ()
    assert verdict.counts["tasks that ran more than once"] == 2
    assert verdict.counts["of unknown outcome"] == 1


def test_a_task_that_was_cancelled_on_demand_is_not_lost() -> None:
    history = with_rows(good_history(), d=Row(D, 4, "cancelled"))

    assert check(history).broken == {Rule.LOST}
    assert check(replace(history, cancelled=frozenset({D}))).broken == set()


def test_a_rejected_task_may_be_dead_with_tries_left() -> None:
    history = good_history()
    (*others, _, last) = history.runs
    shorter = replace(
        history,
        runs=(*others, replace(last, attempt=1, owner="w1", how="rejected")),
        moves=(
            *(each for each in history.moves if each.seq not in (11, 12, 13)),
            move(13, C, "running", "dead", 1, "w1"),
        ),
    )

    assert check(shorter).broken == set()


def test_a_given_back_attempt_is_not_charged() -> None:
    history = good_history()
    given_back = Move(11, C, "running", "queued", 1, "w1", tries_before=1, tries_after=0)
    again = (
        move(14, C, "dead", "running", 3, "w1"),
        move(15, C, "running", "dead", 3, "w1"),
    )
    moves = tuple(given_back if each.seq == 11 else each for each in history.moves)
    third = Run(C, 3, "w1", 1, 0.6, 0.7, "failed")

    refunded = check(replace(history, moves=moves + again, runs=(*history.runs, third)))
    charged = check(replace(history, moves=history.moves + again, runs=(*history.runs, third)))

    assert refunded.broken == {Rule.MOVED_AFTER_ITS_END}
    assert charged.broken == {Rule.MOVED_AFTER_ITS_END, Rule.TRIED_TOO_OFTEN}


def test_the_one_step_that_a_stop_interrupts_is_excused() -> None:
    history = _began_after_a_newer_claim(good_history())
    stopped = replace(history, absences=(*history.absences, Absence(1, 0.95, 1.05)))

    assert check(stopped).broken == set()


def _never_finished(history: History) -> History:
    return with_rows(history, a=Row(A, 1, "running"))


def _not_in_the_ledger(history: History) -> History:
    enqueues = (*history.enqueues, Enqueue(6, 0.0, task="task-x"))
    return replace(history, enqueues=enqueues)


def _merged_into_a_lost_one(history: History) -> History:
    return with_rows(history, d=Row(D, 4, "cancelled", last_error="merged into task 0-0"))


def _merged_in_a_circle(history: History) -> History:
    return with_rows(history, d=Row("0-1", 4, "cancelled", last_error="merged into task 0-1"))


def _never_enqueued(history: History) -> History:
    return replace(history, rows=(*history.rows, Row("task-x", 77, "completed")))


def _ran_out_of_nowhere(history: History) -> History:
    stray = Run("task-x", 1, "w1", 1, 0.0, 0.1, "returned")
    return replace(history, runs=(*history.runs, stray))


def _two_tasks_of_one_enqueue(history: History) -> History:
    return replace(history, rows=(*history.rows, Row("task-x", 1, "completed")))


def _completed_twice(history: History) -> History:
    return replace(history, moves=(*history.moves, move(20, A, "running", "completed", 1, "w1")))


def _completed_and_dead(history: History) -> History:
    return replace(history, moves=(*history.moves, move(20, A, "completed", "queued", 1, "w1")))


def _completed_by_nobody(history: History) -> History:
    moves = [replace(each, owner="w9") if each.seq == 4 else each for each in history.moves]
    return replace(history, moves=tuple(moves))


def _completed_although_it_failed(history: History) -> History:
    runs = [replace(run, how="failed") if run.task == A else run for run in history.runs]
    return replace(history, runs=tuple(runs))


def _completed_before_its_run_returned(history: History) -> History:
    moves = [replace(each, moved_at=0.8) if each.seq == 4 else each for each in history.moves]
    return replace(history, moves=tuple(moves))


def _tried_once_too_often(history: History) -> History:
    return replace(
        history,
        enqueues=tuple(
            replace(each, tries_max=1) if each.n == 3 else each for each in history.enqueues
        ),
    )


def _buried_alive(history: History) -> History:
    return replace(
        history,
        enqueues=tuple(
            replace(each, tries_max=3) if each.n == 3 else each for each in history.enqueues
        ),
    )


def _ran_unclaimed(history: History) -> History:
    return replace(history, moves=tuple(each for each in history.moves if each.seq != 10))


def _ran_twice_with_one_token(history: History) -> History:
    (first, *_) = history.runs
    twice = replace(first, started_at=0.91, ended_at=0.95)
    return replace(history, runs=(*history.runs, twice))


def _attempts_that_do_not_grow(history: History) -> History:
    moves = [replace(each, attempt=1) if each.seq == 12 else each for each in history.moves]
    return replace(history, moves=tuple(moves))


def _overlap_of_reachable_workers(history: History) -> History:
    return replace(history, absences=())


def _overlap_long_after_an_absence(history: History) -> History:
    return replace(history, absences=(Absence(1, 2.0, 3.5),))


def _overlap_with_anothers_absence(history: History) -> History:
    return replace(history, absences=(Absence(2, 2.0, 8.9),))


def _overlap_of_a_stale_worker_that_was_there(history: History) -> History:
    stale = Run(A, 1, "w1", 1, 0.2, 0.8, "cancelled")
    newer = Run(A, 2, "w2", 2, 0.1, 0.9, "returned")
    others = [run for run in history.runs if run.task != A]
    return replace(history, runs=(stale, newer, *others))


def _began_after_a_newer_claim(history: History) -> History:
    moves = [replace(each, moved_at=1.0) if each.seq == 7 else each for each in history.moves]
    return replace(history, moves=tuple(moves))


def _two_of_one_key(history: History) -> History:
    (first, *others) = history.runs
    return replace(history, runs=(replace(first, ended_at=1.5), *others))


def _effect_after_a_newer_claim(history: History) -> History:
    return replace(history, effects=(*history.effects, Effect(8, B, 1, "w1")))


def _effect_before_its_claim(history: History) -> History:
    return replace(history, effects=(*history.effects, Effect(0, A, 1, "w1")))


def _two_effects_of_one_attempt(history: History) -> History:
    return replace(history, effects=(*history.effects, Effect(3, A, 1, "w1")))


def _before_its_delay(history: History) -> History:
    runs = [replace(run, started_at=0.91) if run.task == B else run for run in history.runs]
    return replace(history, runs=tuple(runs))


def _slot_twice(history: History) -> History:
    return replace(history, slots=(*history.slots, Slot("s", 14, 14, "skipped")))


def _slot_missing(history: History) -> History:
    return replace(history, slots=(*history.slots[:1], Slot("s", 14, 16, "skipped")))


def _last_slot_missing(history: History) -> History:
    return replace(history, slots=history.slots[:1])


def _slot_without_its_task(history: History) -> History:
    return replace(history, slots=(Slot("s", 10, 10, "enqueued"), *history.slots[1:]))


def _slot_of_a_lost_task(history: History) -> History:
    return replace(history, slots=(*history.slots, Slot("s", 18, 18, "enqueued", "task-x")))


def _one_task_for_two_slots(history: History) -> History:
    return replace(history, slots=(*history.slots, Slot("s", 18, 18, "enqueued", E)))


def _task_of_no_slot(history: History) -> History:
    return replace(history, slots=(), schedules=())


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_never_finished, Rule.LOST),
        (_not_in_the_ledger, Rule.LOST),
        (_merged_into_a_lost_one, Rule.LOST),
        (_merged_in_a_circle, Rule.LOST),
        (_never_enqueued, Rule.UNEXPECTED),
        (_ran_out_of_nowhere, Rule.UNEXPECTED),
        (_two_tasks_of_one_enqueue, Rule.DOUBLED),
        (_completed_twice, Rule.ACCEPTED_TWICE),
        (_completed_and_dead, Rule.MOVED_AFTER_ITS_END),
        (_completed_by_nobody, Rule.COMPLETED_WITHOUT_A_RUN),
        (_completed_although_it_failed, Rule.COMPLETED_WITHOUT_A_RUN),
        (_completed_before_its_run_returned, Rule.COMPLETED_WITHOUT_A_RUN),
        (_tried_once_too_often, Rule.TRIED_TOO_OFTEN),
        (_buried_alive, Rule.DEAD_WITHOUT_CAUSE),
        (_ran_unclaimed, Rule.RAN_WITHOUT_A_CLAIM),
        (_ran_twice_with_one_token, Rule.RAN_WITHOUT_A_CLAIM),
        (_attempts_that_do_not_grow, Rule.RAN_WITHOUT_A_CLAIM),
        (_overlap_of_reachable_workers, Rule.OVERLAPPED),
        (_overlap_long_after_an_absence, Rule.OVERLAPPED),
        (_overlap_with_anothers_absence, Rule.OVERLAPPED),
        (_overlap_of_a_stale_worker_that_was_there, Rule.OVERLAPPED),
        (_began_after_a_newer_claim, Rule.STARTED_STALE),
        (_two_of_one_key, Rule.SHARED_A_KEY),
        (_effect_after_a_newer_claim, Rule.STALE_EFFECT),
        (_effect_before_its_claim, Rule.STALE_EFFECT),
        (_two_effects_of_one_attempt, Rule.STALE_EFFECT),
        (_before_its_delay, Rule.EARLY),
        (_slot_twice, Rule.SLOT),
        (_slot_missing, Rule.SLOT),
        (_last_slot_missing, Rule.SLOT),
        (_slot_without_its_task, Rule.SLOT),
        (_slot_of_a_lost_task, Rule.SLOT),
        (_slot_of_a_lost_task, Rule.LOST),
        (_task_of_no_slot, Rule.UNEXPECTED),
        (_one_task_for_two_slots, Rule.SLOT),
    ],
)
def test_each_rule_is_seen_failing(spoil: Callable[[History], History], rule: Rule) -> None:
    verdict = check(spoil(good_history()))

    assert rule in verdict.broken
    assert rule.name in verdict.report()


def test_every_rule_has_a_bad_history() -> None:
    (cases,) = (
        mark.args[1]
        for mark in test_each_rule_is_seen_failing.pytestmark  # type: ignore[attr-defined]
    )

    assert {rule for _, rule in cases} == set(Rule)
