"""The table and the targets. Times are absolute, of this machine; what can be compared elsewhere are the ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.queue_rig.contenders import Contender
from benchmarks.queue_rig.measures import Results, Tally

MODES = ("single", "batched", "callers")
MIB = 1024 * 1024
NAME_WIDTH = 16


def print_settings(
    contenders: Sequence[Contender], described: Mapping[str, str], seed: int
) -> None:
    """Say what was measured on what."""
    print(f"Queues with no-op tasks: seed {seed}")
    for title, line in described.items():
        print(f"  {title}: {line}")
    for contender in contenders:
        print(f"  {contender.name}: {contender.settings}")


def print_results(contenders: Sequence[Contender], results: Results) -> bool:
    """Print the tables; whether all was measured and each task ran."""
    _print_rates(contenders, results)
    _print_costs(contenders, results)
    for contender in contenders:
        for failure in results[contender.name].failures:
            print(f"{contender.name} FAILED: {failure.splitlines()[0]}")
    return not any(tally.failures for tally in results.values())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of the values are below."""
    return sorted(values)[int(len(values) * share)]


def delays(tally: Tally) -> list[float]:
    """Return the idle delays of all rounds together."""
    return [delay for round_ in tally.idles.values() for delay in round_]


def _print_rates(contenders: Sequence[Contender], results: Results) -> None:
    print(
        "\nMedians of the rounds, and half of the spread. Tasks per second: drained by 1 and 2 worker processes, to"
        "\nthe last settlement; enqueued by one process one by one, in batches of 100, by 100 callers at once."
    )
    print(
        f"{'':{NAME_WIDTH}} |{'1 worker':^13}|{'2 workers':^13}|{'single':^13}|{'batched':^14}|{'callers':^13}"
        f"|{'idle delay, ms':^25}|{'PSS':^6}"
    )
    print(
        f"{'':{NAME_WIDTH}} |{'':13}|{'':13}|{'':13}|{'':14}|{'':13}|{'p50':>8}{'p99':>9}{'n':>6}  |{'MiB':^6}"
    )
    for contender in contenders:
        tally = results[contender.name]
        cells = [_spread(it.rate for it in tally.drains[workers].values()) for workers in (1, 2)]
        cells += [_spread(tally.enqueues.get(mode, {}).values()) for mode in MODES]
        cells[3] = f"{cells[3]:>14}"
        idle = delays(tally)
        shown = f"{'-':>8}{'-':>9}{'':6}"
        if idle:
            p50, p99 = 1_000 * statistics.median(idle), 1_000 * percentile(idle, 0.99)
            shown = f"{p50:8.2f}{p99:9.2f}{len(idle):6}"
        pss = statistics.median(tally.pss_bytes.values()) / MIB if tally.pss_bytes else 0
        memory = f"{pss:6.0f}" if pss else f"{'-':>6}"
        print(f"{contender.name:{NAME_WIDTH}} |{'|'.join(cells)}|{shown}  |{memory}")


def _print_costs(contenders: Sequence[Contender], results: Results) -> None:
    print("\nPer task drained by one worker, medians; runs beyond one per task, in all drains")
    print(
        f"{'':{NAME_WIDTH}} |{'commits':>9}{'WAL bytes':>11}{'WAL syncs':>11}{'Redis commands':>16}{'worker CPU, µs':>16} |{'extra runs':>11}"
    )
    for contender in contenders:
        tally = results[contender.name]
        drains = list(tally.drains[1].values())
        if not drains:
            continue
        extra = sum(it.runs - it.count for by in tally.drains.values() for it in by.values())
        values = [
            statistics.median(getattr(it, name) for it in drains)
            for name in ("commits", "wal_bytes", "wal_syncs", "redis_commands", "cpu_seconds")
        ]
        print(
            f"{contender.name:{NAME_WIDTH}} |{values[0]:9.3f}{values[1]:11.0f}{values[2]:11.3f}{values[3]:16.2f}"
            f"{1e6 * values[4]:16.0f} |{extra:11}"
        )


def _spread(values: Iterable[float]) -> str:
    """Return the median and half of the distance between the extremes, in per cent of it."""
    found = list(values)
    if not found:
        return f"{'-':>13}"
    middle = statistics.median(found)
    share = 100 * (max(found) - min(found)) / 2 / middle
    return f"{middle:8,.0f} ±{share:2.0f}%"


def as_json(
    contenders: Sequence[Contender], described: Mapping[str, str], seed: int, results: Results
) -> dict[str, Any]:
    """Return all that was measured, round by round."""
    return {
        "seed": seed,
        "described": dict(described),
        "settings": {it.name: it.settings for it in contenders},
        "results": {
            name: {
                "drains": {
                    workers: {number: asdict(it) for number, it in by.items()}
                    for workers, by in tally.drains.items()
                },
                "enqueues": tally.enqueues,
                "idle_delays": tally.idles,
                "pss_bytes": tally.pss_bytes,
                "failures": tally.failures,
            }
            for name, tally in results.items()
        },
    }
