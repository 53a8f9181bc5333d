"""The tables. Times are absolute, of this machine; what can be compared elsewhere are the ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.failover_rig.measures import STOP_SECONDS, Results, Times
from benchmarks.failover_rig.systems import TTL_SECONDS, System

HAND_OVER_P99_MAX = 0.25
KILL_MAX = TTL_SECONDS + 1


def print_settings(
    systems: Sequence[System], description: Sequence[str], seed: int, load: str
) -> None:
    """Say what was measured on what."""
    print(f"Failover of leases: seed {seed}, TTL {TTL_SECONDS} s, load average before {load}")
    for line in description:
        print(f"  {line}")
    for system in systems:
        print(f"  {system.name}: {system.settings}")


def print_results(systems: Sequence[System], results: Results) -> bool:
    """Print a table for each measure; whether no act of lockd's was stale."""
    if any(times.seconds for times in results.hand_over.values()):
        _print_hand_over(systems, results.hand_over)
    if any(times.seconds for times in results.kill.values()):
        _print_kill(systems, results.kill)
    if any(seen.stops for seen in results.stop.values()):
        _print_stop(results)
    return not any(
        seen.stale_acts for name, seen in results.stop.items() if name.startswith("lockd")
    )


def p50(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)]


def _print_hand_over(systems: Sequence[System], results: dict[str, Times]) -> None:
    print("\n1. Orderly hand-over: from the begin of the end to the other's acquisition")
    print(
        f"{'':18}{'runs':>5}{'failed':>7} |{'absolute, ms':^27} |{'x floor':^14} |{'x best peer':^14}"
    )
    print(
        f"{'':18}{'':12} |{'p50':>9}{'p99':>9}{'max':>9} |{'p50':>7}{'p99':>7} |{'p50':>7}{'p99':>7}"
    )
    peers = [
        results[system.name].seconds
        for system in systems
        if system.is_peer and results[system.name].seconds
    ]
    for system in systems:
        times = results[system.name]
        if not times.seconds:
            print(f"{system.name:18}{0:5}{times.failures:7} |")
            continue
        floor = results[system.floor].seconds if system.floor else []
        cells = [f"{1000 * find(times.seconds):9.1f}" for find in (p50, p99, max)]
        floors = [_ratio(find(times.seconds), floor and find(floor)) for find in (p50, p99)]
        best = [
            _ratio(find(times.seconds), peers and min(find(it) for it in peers))
            for find in (p50, p99)
        ]
        if system.floor is None:
            best = [f"{'':7}"] * 2
        counts = f"{len(times.seconds):5}{times.failures:7}"
        print(f"{system.name:18}{counts} |{''.join(cells)} |{''.join(floors)} |{''.join(best)}")
    if peers:
        print("peers move no fence: what floor-redis commits to disk is not in their times")
    for system in systems:
        times = results[system.name]
        if system.name.startswith("lockd") and times.seconds:
            met = p99(times.seconds) < HAND_OVER_P99_MAX
            print(f"{system.name}: p99 under {1000 * HAND_OVER_P99_MAX:g} ms: {_verdict(met)}")


def _print_kill(systems: Sequence[System], results: dict[str, Times]) -> None:
    print(
        "\n2. After kill -9 of the holder: to the next acquisition (the floor is what is left of the TTL)"
    )
    print(
        f"{'':18}{'runs':>5}{'failed':>7} |{'absolute, s':^16} |{'max x TTL':>10} |{'x best peer':^14}"
    )
    print(f"{'':18}{'':12} |{'p50':>8}{'max':>8} |{'':10} |{'p50':>7}{'max':>7}")
    peers = [
        results[system.name].seconds
        for system in systems
        if system.is_peer and results[system.name].seconds
    ]
    for system in systems:
        if system.name not in results:
            continue
        times = results[system.name]
        counts = f"{len(times.seconds):5}{times.failures:7}"
        if not times.seconds:
            print(f"{system.name:18}{counts} |")
            continue
        best = [
            _ratio(find(times.seconds), peers and min(find(it) for it in peers))
            for find in (p50, max)
        ]
        longest = max(times.seconds)
        print(
            f"{system.name:18}{counts} |{p50(times.seconds):8.2f}{longest:8.2f} |"
            f"{longest / TTL_SECONDS:10.2f} |{''.join(best)}"
        )
    for name, times in results.items():
        if name.startswith("lockd") and times.seconds:
            print(f"{name}: at most TTL + 1 s: {_verdict(max(times.seconds) <= KILL_MAX)}")


def _print_stop(results: Results) -> None:
    print(
        f"\n3. The acting holder stopped for {STOP_SECONDS} s: acts committed after the other had acquired"
    )
    print(
        f"{'':18}{'stops':>6}{'taken over':>11}{'failed':>7} |{'stale acts':>11}{'per 20 stops':>13}"
        f"{'in stops':>9} |{'acts':>7}{'loss unnoticed':>15}"
    )
    for name, seen in results.stop.items():
        if not seen.acts:
            print(
                f"{name:18}{seen.stops:6}{seen.taken_over:11}{seen.failures:7} | acts not counted"
            )
            continue
        rate = 20 * seen.stale_acts / max(1, seen.stops)
        print(
            f"{name:18}{seen.stops:6}{seen.taken_over:11}{seen.failures:7} |{seen.stale_acts:11}"
            f"{rate:13.1f}{seen.stops_with_stale_acts:9} |{seen.acts:7}{seen.unnoticed:15}"
        )
    for name, seen in results.stop.items():
        if name.startswith("lockd") and seen.acts:
            print(f"{name}: no stale act: {_verdict(seen.stale_acts == 0)}")


def _ratio(value: float, reference: float | Sequence[float]) -> str:
    """Return how many times the reference it is; nothing without one."""
    return f"{value / reference:7.2f}" if isinstance(reference, float) else f"{'':7}"


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
