"""What Sercha's queue must reach, as ratios between figures of the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.queue_rig.contenders import BY_NAME, Contender
from benchmarks.queue_rig.depth import Depths
from benchmarks.queue_rig.measures import Results, Tally
from benchmarks.queue_rig.report import delays, percentile

TUNED = "dramatiq-tuned"
BATCHING_PEER = "procrastinate"
BARE_COMMIT = "floor-commit"
FLOORS = {"sercha-redis": "floor-redis", "sercha-postgres": "floor-postgres"}
"""The bare program that sends the same messages."""


@dataclass(frozen=True, slots=True)
class Target:
    """One ratio, and what it must be."""

    text: str
    ratio: float
    limit: float
    is_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.limit if self.is_most else self.ratio >= self.limit


def print_targets(contenders: Sequence[Contender], results: Results, depths: Depths) -> None:
    """Say which are met; those whose figures were not measured are left out."""
    for contender in contenders:
        if not contender.is_ours:
            continue
        targets = _targets(contender, results, depths)
        if targets:
            print(
                f"\n{contender.name}: ratios, medians of the rounds'; idle delays of all rounds together"
            )
        if contender.name in depths:
            depth = depths[contender.name]
            rates = [statistics.median(it) for it in (depth.shallow_rates, depth.deep_rates)]
            print(
                f"  a fresh worker's first tasks: {rates[0]:,.0f}/s of 1,000, {rates[1]:,.0f}/s of "
                f"{depth.deep:,}, where it goes on with {depth.sustained_rate:,.0f}/s"
            )
        for target in targets:
            verdict = "met" if target.is_met else "MISSED"
            bound = "at most" if target.is_most else "at least"
            print(f"  {target.text:62}{target.ratio:8.2f}  {bound} {target.limit:<5g} {verdict}")


def _targets(contender: Contender, results: Results, depths: Depths) -> list[Target]:
    ours = results[contender.name]
    found: list[Target] = []

    def compare(
        text: str, mine: Mapping[int, float], other: Mapping[int, float], limit: float
    ) -> None:
        ratios = [mine[number] / other[number] for number in mine.keys() & other.keys()]
        if ratios:
            found.append(Target(text, statistics.median(ratios), limit))

    tuned, rows = results.get(TUNED, Tally()), _rows_only(results)
    compare(f"drain, one worker, to {TUNED}", _rates(ours, 1), _rates(tuned, 1), 3)
    if rows:
        best = max(rows, key=lambda name: _median(_rates(rows[name], 1)))
        text = f"drain, one worker, to the best on PostgreSQL, {best}"
        compare(text, _rates(ours, 1), _rates(rows[best], 1), 20)
    compare(f"drain, two workers, to {TUNED} with two", _rates(ours, 2), _rates(tuned, 2), 2)
    peer = results.get(BATCHING_PEER, Tally()).enqueues.get("batched", {})
    compare(f"batched enqueue, to {BATCHING_PEER}", ours.enqueues.get("batched", {}), peer, 2)
    commit = results.get(BARE_COMMIT, Tally()).enqueues.get("single", {})
    compare("single enqueue, to the bare commit", ours.enqueues.get("single", {}), commit, 0.7)
    found += _idle_targets(contender, results, rows)
    if contender.name in depths:
        depth = depths[contender.name]
        text = f"of {depth.deep:,} tasks, to the first of 1,000"
        found.append(Target(f"the first {text}", depth.ratio, 0.8))
        found.append(Target(f"those after the first {text}", depth.sustained_ratio, 0.8))
    return found


def _idle_targets(contender: Contender, results: Results, rows: Results) -> list[Target]:
    found: list[Target] = []
    floor = FLOORS[contender.name]
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        values = {
            name: percentile(delays(tally), share)
            for name, tally in results.items()
            if delays(tally)
        }
        if contender.name not in values:
            continue
        mine = values[contender.name]
        peers = [name for name in rows if name in values]
        if peers:
            best = min(peers, key=lambda name: values[name])
            text = f"idle delay {title}, to the best on PostgreSQL, {best}"
            found.append(Target(text, mine / values[best], 0.65, is_most=True))
        if floor in values:
            text = f"idle delay {title}, to the bare path, {floor}"
            found.append(Target(text, mine / values[floor], 1.2, is_most=True))
    return found


def _rows_only(results: Results) -> Results:
    """Return the peers whose store is PostgreSQL."""
    return {
        name: tally
        for name, tally in results.items()
        if BY_NAME[name].is_peer and BY_NAME[name].ledger == "postgres"
    }


def _rates(tally: Tally, workers: int) -> dict[int, float]:
    return {number: drain.rate for number, drain in tally.drains[workers].items()}


def _median(values: Mapping[int, float]) -> float:
    return statistics.median(values.values()) if values else 0.0
