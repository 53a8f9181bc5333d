"""How fast a lease changes hands, and who acts with one that is over: ``python -m benchmarks.failover``.

lockd on Redis (with the fence in PostgreSQL) and on PostgreSQL alone, against redis-py's Lock with a renewal
loop, python-redis-lock and RedBeat's scheduler lock, as pairs of processes on the same servers, in turns. The
peers run in a virtual environment that is made for it, from ``benchmarks/peers/failover.txt``. As the floor, a
pair that only sends the messages that a hand-over cannot do without. About 12 minutes; two with ``--quick``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

if (
    __name__ == "__main__"
):  # as `python benchmarks/failover.py`, without the project's folder in the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.failover_rig.measures import (
    Results,
    measure_hand_over,
    measure_kill,
    measure_stop,
)
from benchmarks.failover_rig.report import print_results, print_settings
from benchmarks.failover_rig.servers import open_lab
from benchmarks.failover_rig.systems import BY_NAME, SYSTEMS, System
from benchmarks.shared_rig.session import load_average, run_session

SEED = 7
QUICK = {"runs": 20, "kills": 2, "stops": 4}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Failover of leases, against peers and a floor.")
    parser.add_argument("--runs", type=int, default=200, help="orderly hand-overs per system")
    parser.add_argument("--kills", type=int, default=10, help="kill -9 of the holder per system")
    parser.add_argument("--stops", type=int, default=20, help="SIGSTOP of the holder per system")
    parser.add_argument("--quick", action="store_true", help="20 runs, 2 kills, 4 stops")
    parser.add_argument("--seed", type=int, default=SEED)
    names = ",".join(system.name for system in SYSTEMS if system.floor)
    parser.add_argument("--only", default=names, help=f"some of {names}")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    options.systems = []
    for name in options.only.split(","):
        if name not in names.split(","):
            parser.error(f"--only: {name} is none of {names}")
        options.systems.append(BY_NAME[name])
    return options


def seconds_max(options: argparse.Namespace) -> float:
    """Return when to give up, far beyond what it takes: each single wait has a limit of its own."""
    count = len(options.systems) + 2
    return 600 + 2.0 * count * options.runs + 30 * options.kills + 40 * options.stops


async def measure(options: argparse.Namespace, results: Results) -> None:
    """Measure all, and say on what it was done."""
    systems: Sequence[System] = options.systems
    floors = [BY_NAME[name] for name in sorted({it.floor for it in systems if it.floor})]
    before = load_average()
    async with open_lab(with_peers=any(system.is_peer for system in systems)) as lab:
        print_settings([*systems, *floors], lab.description, options.seed, before)
        sys.stdout.flush()
        seed: int = options.seed
        await measure_hand_over(lab, [*systems, *floors], options.runs, seed, results.hand_over)
        await measure_kill(lab, systems, options.kills, seed + 1, results.kill)
        await measure_stop(lab, systems, options.stops, seed + 2, results.stop)


async def main(options: argparse.Namespace) -> int:
    """Measure and print; Ctrl-C and SIGTERM print what there is by then."""
    results, begun = Results(), time.monotonic()
    status = await run_session(partial(measure, options, results), seconds_max=seconds_max(options))
    systems = [system for system in SYSTEMS if system.name in results.hand_over]
    is_safe = print_results(systems, results)
    print(f"\nload average after {load_average()}, {time.monotonic() - begun:.0f} s in all")
    return status or (0 if is_safe else 1)


if __name__ == "__main__":
    sys.exit(trio.run(main, parse()))
