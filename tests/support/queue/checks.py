"""Whether a history of the queue is one that may be: I7 to I10 and what goes with them, as one pure function.

    python -m tests.support.queue.checks FOLDER

checks a folder of histories that a failed test has kept.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from tests.support.queue.history import Absence, Enqueue, History, Move, Run, Slot, read_history

GRACE = 1.0
"""Seconds after an absence in which a worker may not have noticed yet what it has lost."""
CLOCKS = 0.05
"""Seconds by which the database's clock and ours may disagree."""
LINES_MAX = 12
ENDED = frozenset({"completed", "dead", "cancelled"})


class Rule(StrEnum):
    """What must never be seen."""

    LOST = "acknowledged, and neither finished nor dead (I8)"
    UNEXPECTED = "ran or is in the ledger, but was never enqueued (I9)"
    DOUBLED = "one enqueue became two tasks (I9)"
    ACCEPTED_TWICE = "more than one accepted completion (I10)"
    MOVED_AFTER_ITS_END = "changed its state after its end (I10)"
    COMPLETED_WITHOUT_A_RUN = "completed by an attempt that did not return (I10)"
    TRIED_TOO_OFTEN = "charged more tries than it has (I10)"
    DEAD_WITHOUT_CAUSE = "dead, with tries left and no final error"
    RAN_WITHOUT_A_CLAIM = "ran with a token that the ledger has not given, or twice with one"
    OVERLAPPED = (
        "two runs at once, although the first one's worker was alive and could be reached (I10)"
    )
    STARTED_STALE = "a run began although a newer claim of its task had been made (I10)"
    SHARED_A_KEY = "two tasks of one concurrency key ran at once (I11)"
    STALE_EFFECT = "an effect was accepted after a newer claim, or without one (I3)"
    EARLY = "ran before its delay was over"
    SLOT = "a slot without exactly one outcome, or not with the one task that it wants (I7)"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that was seen and must not be."""

    rule: Rule
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of `check`."""

    violations: tuple[Violation, ...]
    counts: dict[str, int]

    @property
    def broken(self) -> set[Rule]:
        """The rules that were broken."""
        return {violation.rule for violation in self.violations}

    def report(self) -> str:
        """Return the numbers in one line, then the first violations of each rule."""
        lines = [", ".join(f"{number} {name}" for name, number in self.counts.items())]
        for rule in Rule:
            found = [each.what for each in self.violations if each.rule is rule]
            if found:
                lines.append(f"{len(found)} x {rule.name}: {rule}")
                lines += [f"    {what}" for what in found[:LINES_MAX]]
        return "\n".join(lines)


def check(history: History) -> Verdict:
    """Hold the history against every rule."""
    violations = [
        Violation(rule, what) for rules in CHECKS for rule, what in rules(_Indexed(history))
    ]
    return Verdict(tuple(violations), _counts(history))


class _Indexed:
    """A history with the questions that several rules ask."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.runs = history.runs_by_task()
        self.moves = history.moves_by_task()
        self.rows = {row.task: row for row in history.rows}
        self.enqueues = {enqueue.n: enqueue for enqueue in history.enqueues}
        self._absences: defaultdict[int | None, list[Absence]] = defaultdict(list)
        self._starts: defaultdict[int, list[float]] = defaultdict(list)
        for run in sorted(history.runs, key=lambda run: run.started_at):
            self._starts[run.life].append(run.started_at)
        for absence in history.absences:
            self._absences[absence.life].append(absence)

    def enqueue_of(self, task: str) -> Enqueue | None:
        """Return what asked for the task's row, if it has one that was asked for."""
        row = self.rows.get(task)
        return self.enqueues.get(row.n) if row is not None and row.n is not None else None

    def was_away(self, run: Run, at: float) -> bool:
        """Whether the worker of a run may not know what was known to the ledger at that time.

        It may have been away from before the run: stopped between its claim and the handler's first line.
        """
        return any(
            absence.begun_at <= at and at <= absence.ended_at + GRACE
            for life in (run.life, None)
            for absence in self._absences[life]
        )

    def is_first_since_absence(self, run: Run) -> bool:
        """Whether the worker had begun nothing between the beginning of an absence and this run."""
        starts = self._starts[run.life]
        at = bisect_left(starts, run.started_at)
        before = starts[at - 1] if at else -math.inf
        return any(
            before < absence.begun_at <= run.started_at for absence in self._absences[run.life]
        )


Found = Iterator[tuple[Rule, str]]


def _lost(indexed: _Indexed) -> Found:
    told = [(each.task, f"n={each.n} {each.kind}") for each in indexed.history.enqueues]
    told += [(each.task, f"slot {each.slot} of {each.schedule}") for each in indexed.history.slots]
    for task, what in told:
        if task is not None:
            fate = _fate(indexed, task)
            if fate not in ("completed", "dead", "cancelled as asked"):
                yield Rule.LOST, f"{what} task={task}: {fate}"


def _fate(indexed: _Indexed, task: str) -> str:
    """Return the state at the end of a task, or of the one that does its work."""
    followed: set[str] = set()
    while True:
        row = indexed.rows.get(task)
        if row is None:
            return "not in the ledger"
        if row.state != "cancelled":
            return row.state
        if task in indexed.history.cancelled:
            return "cancelled as asked"
        twin = re.match(r"merged into task (\S+)", row.last_error or "")
        if twin is None or task in followed:
            return "cancelled by nobody"
        followed.add(task)
        task = twin[1]


def _unexpected(indexed: _Indexed) -> Found:
    numbers: Counter[int] = Counter()
    scheduled = {slot.task for slot in indexed.history.slots if slot.outcome == "enqueued"}
    for row in indexed.history.rows:
        if row.n is None:
            if row.task not in scheduled:
                yield Rule.UNEXPECTED, f"task={row.task} is of no enqueue and of no slot"
            continue
        numbers[row.n] += 1
        if row.n not in indexed.enqueues:
            yield Rule.UNEXPECTED, f"task={row.task} n={row.n} is in the ledger"
    for n, times in numbers.items():
        if times > 1:
            yield Rule.DOUBLED, f"n={n}: {times} tasks"
    for task in indexed.runs.keys() - indexed.rows.keys():
        yield Rule.UNEXPECTED, f"task={task} ran and is not in the ledger"


def _ended_once(indexed: _Indexed) -> Found:
    for task, moves in indexed.moves.items():
        completions = [move for move in moves if move.after == "completed"]
        if len(completions) > 1:
            yield Rule.ACCEPTED_TWICE, f"task={task}: {[_token(move) for move in completions]}"
        for move in moves:
            if move.before in ENDED:
                yield (
                    Rule.MOVED_AFTER_ITS_END,
                    f"task={task}: {move.before} -> {move.after} ({move.seq})",
                )
        for move in completions:
            returned = any(
                run.attempt == move.attempt
                and run.owner == move.owner
                and run.how == "returned"
                and run.ended_at <= move.moved_at + CLOCKS
                for run in indexed.runs.get(task, [])
            )
            if not returned:
                yield Rule.COMPLETED_WITHOUT_A_RUN, f"task={task} attempt={move.attempt}"


def _tries(indexed: _Indexed) -> Found:
    for task, row in indexed.rows.items():
        moves, runs = indexed.moves.get(task, []), indexed.runs.get(task, [])
        claims = sum(move.after == "running" for move in moves)
        given_back = sum(
            move.before == "running" and move.tries_after < move.tries_before for move in moves
        )
        enqueue = indexed.enqueue_of(task)
        tries_max = enqueue.tries_max if enqueue else row.tries_max
        if claims - given_back > tries_max or len(runs) - given_back > tries_max:
            what = f"task={task}: {claims} claims, {given_back} given back, {len(runs)} runs"
            yield Rule.TRIED_TOO_OFTEN, f"{what}, of {tries_max}"
        is_final = any(run.how == "rejected" for run in runs)
        if row.state == "dead" and claims - given_back < tries_max and not is_final:
            yield Rule.DEAD_WITHOUT_CAUSE, f"task={task}: {claims} claims, {given_back} given back"


def _claimed(indexed: _Indexed) -> Found:
    for task, runs in indexed.runs.items():
        claims = [move for move in indexed.moves.get(task, []) if move.after == "running"]
        given = {(move.attempt, move.owner) for move in claims}
        ran: Counter[int] = Counter(run.attempt for run in runs)
        for run in runs:
            if (run.attempt, run.owner) not in given:
                yield Rule.RAN_WITHOUT_A_CLAIM, f"task={task} attempt={run.attempt} by {run.owner}"
        for attempt, times in ran.items():
            if times > 1:
                yield Rule.RAN_WITHOUT_A_CLAIM, f"task={task} attempt={attempt} ran {times} times"
        for earlier, later in pairwise(claims):
            if later.attempt <= earlier.attempt:
                yield (
                    Rule.RAN_WITHOUT_A_CLAIM,
                    f"task={task}: {later.attempt} after {earlier.attempt}",
                )


def _overlapped(indexed: _Indexed) -> Found:
    for task, runs in indexed.runs.items():
        for first, second in _overlaps(indexed, runs):
            yield Rule.OVERLAPPED, f"task={task}: {_span(first)} and {_span(second)}"


def _overlaps(indexed: _Indexed, runs: list[Run]) -> Iterator[tuple[Run, Run]]:
    """Give pairs of runs that were there at once without an excuse.

    Of two runs of one task the one with the older claim is excused when its worker was away, of two tasks the
    one that began earlier.
    """
    going: list[Run] = []
    for run in runs:
        going = [each for each in going if each.ended_at > run.started_at]
        for earlier in going:
            is_stale = earlier.task == run.task and run.attempt < earlier.attempt
            if not indexed.was_away(run if is_stale else earlier, run.started_at):
                yield earlier, run
        going.append(run)


def _started_stale(indexed: _Indexed) -> Found:
    """A stop may hit between a worker's look at its clock and the run's first line: once for each stop."""
    for task, moves in indexed.moves.items():
        claims = [move for move in moves if move.after == "running"]
        for run in indexed.runs.get(task, []) if len(claims) > 1 else ():
            newer = [claim.moved_at for claim in claims if claim.attempt > run.attempt]
            if (
                newer
                and min(newer) + CLOCKS < run.started_at
                and not indexed.is_first_since_absence(run)
            ):
                what = f"{run.started_at - min(newer):.3f} s after a newer claim"
                yield Rule.STARTED_STALE, f"task={task}: {_span(run)}, {what}"


def _keys(indexed: _Indexed) -> Found:
    by_key: defaultdict[str, list[Run]] = defaultdict(list)
    for task, runs in indexed.runs.items():
        enqueue = indexed.enqueue_of(task)
        if enqueue is not None and enqueue.concurrency_key is not None:
            by_key[enqueue.concurrency_key] += runs
    for key, runs in by_key.items():
        runs.sort(key=lambda run: run.started_at)
        for first, second in _overlaps(indexed, runs):
            if first.task != second.task:
                yield Rule.SHARED_A_KEY, f"key={key}: {_span(first)} and {_span(second)}"


def _effects(indexed: _Indexed) -> Found:
    written: Counter[tuple[str, int]] = Counter()
    for effect in indexed.history.effects:
        written[effect.task, effect.attempt] += 1
        moves = indexed.moves.get(effect.task, [])
        at = bisect_right([move.seq for move in moves], effect.seq)
        last = moves[at - 1] if at else None
        is_held = (
            last is not None
            and last.after == "running"
            and (last.attempt, last.owner) == (effect.attempt, effect.owner)
        )
        if not is_held:
            what = f"task={effect.task} attempt={effect.attempt} ({effect.seq})"
            yield Rule.STALE_EFFECT, f"{what}, the ledger stood at {last}"
    for (task, attempt), times in written.items():
        if times > 1:
            yield Rule.STALE_EFFECT, f"task={task} attempt={attempt}: {times} effects"


def _early(indexed: _Indexed) -> Found:
    for enqueue in indexed.history.enqueues:
        # A twin may ask for an earlier time, so those with a key to merge by are left out.
        if enqueue.task is None or not enqueue.delay or enqueue.dedupe_key is not None:
            continue
        due = enqueue.asked_at + enqueue.delay
        for run in indexed.runs.get(enqueue.task, [])[:1]:
            if run.started_at < due - CLOCKS:
                yield Rule.EARLY, f"n={enqueue.n}: {due - run.started_at:.3f} s before its time"


def _slots(indexed: _Indexed) -> Found:
    by_schedule: defaultdict[str, list[Slot]] = defaultdict(list)
    tasks: Counter[str] = Counter()
    for slot in sorted(indexed.history.slots, key=lambda slot: slot.slot):
        by_schedule[slot.schedule].append(slot)
        if slot.outcome == "enqueued":
            tasks[slot.task or "no task"] += 1
            if slot.task not in indexed.rows:
                yield Rule.SLOT, f"{slot.schedule} {slot.slot}: task={slot.task} is not there"
    for task, times in tasks.items():
        if times > 1:
            yield Rule.SLOT, f"task={task} stands for {times} slots"
    for schedule in indexed.history.schedules:
        expected = schedule.first
        for slot in by_schedule[schedule.schedule]:
            if slot.slot != expected:
                yield Rule.SLOT, f"{schedule.schedule}: {slot.slot} after {expected} was to come"
            expected = slot.slot_last + schedule.step
        if expected != schedule.next_slot:
            yield Rule.SLOT, f"{schedule.schedule}: {schedule.next_slot} is next, not {expected}"


CHECKS: tuple[Callable[[_Indexed], Found], ...] = (
    _lost,
    _unexpected,
    _ended_once,
    _tries,
    _claimed,
    _overlapped,
    _started_stale,
    _keys,
    _effects,
    _early,
    _slots,
)


def _counts(history: History) -> dict[str, int]:
    states = Counter(row.state for row in history.rows)
    times = Counter(run.task for run in history.runs)
    ends = Counter(run.how for run in history.runs)
    return {
        "enqueued": len(history.enqueues),
        "of unknown outcome": sum(each.task is None for each in history.enqueues),
        "completed": states["completed"],
        "dead": states["dead"],
        "cancelled or merged": states["cancelled"],
        "runs": len(history.runs),
        "tasks that ran more than once": sum(number > 1 for number in times.values()),
        "runs cut short": ends["cancelled"] + ends["unknown"],
        "effects": len(history.effects),
        "slots": len(history.slots),
    }


def _token(move: Move) -> tuple[int, str | None]:
    return move.attempt, move.owner


def _span(run: Run) -> str:
    return f"#{run.attempt} of life {run.life} [{run.started_at:.3f}, {run.ended_at:.3f}] {run.how}"


if __name__ == "__main__":
    verdict = check(read_history(Path(sys.argv[1])))
    print(verdict.report())
    sys.exit(bool(verdict.violations))
