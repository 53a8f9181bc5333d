"""What Sercha's queue does per second and how soon, next to other queues: ``python -m benchmarks.queues``.

No-op tasks on the same servers, in turns; medians of several rounds. The peers are Dramatiq, Taskiq, SAQ, ARQ,
Celery, RQ and Procrastinate, each in a virtual environment that is made for it from ``benchmarks/peers/queue_*.txt``.
As floors, bare programs that send only the statements and messages that a durable queue cannot do without.
Not called `queue`, for this folder is in the path of its scripts, and the standard library has one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import trio

if (
    __name__ == "__main__"
):  # as `python benchmarks/queues.py`, without the project's folder in the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.queue_rig.contenders import BY_NAME, CONTENDERS, Contender
from benchmarks.queue_rig.depth import Depths, measure_depth
from benchmarks.queue_rig.measures import Results, Sizes, Tally, measure_round, prepare
from benchmarks.queue_rig.report import as_json, print_results, print_settings
from benchmarks.queue_rig.servers import open_lab
from benchmarks.queue_rig.targets import print_targets
from benchmarks.shared_rig.session import load_average, run_session

SEED = 7
PROFILE_VARIABLE = "QUEUE_PROFILE"
TURN_SECONDS_MAX = 300
DEEP_SECONDS_MAX = 1_800
DEEP, DEEP_QUICKLY, DEEP_MIN = 1_000_000, 200_000, 150_000
DEEP_TURNS = 10


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Sercha's queue, against peers and floors.")
    parser.add_argument("--rounds", type=int, help="3; one if quick")
    parser.add_argument("--quick", action="store_true", help="one round of a fifth of the size")
    parser.add_argument("--deep", type=int, help=f"tasks in the long queue ({DEEP:,}); 0: none")
    parser.add_argument(
        "--profile", type=Path, help="write what Sercha's workers do to this folder"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    parser.add_argument("--environments", type=Path, help="keep the peers' environments there")
    names = ",".join(BY_NAME)
    parser.add_argument("--only", default=names, help=f"some of {names}")
    options = parser.parse_args()
    options.sizes = Sizes()
    if options.quick:
        options.rounds = options.rounds or 1
        options.sizes = Sizes(drain_share=0.2, enqueue_seconds=0.4, idle_samples=20)
    if options.deep is None:
        options.deep = DEEP_QUICKLY if options.quick else DEEP
    if 0 < options.deep < DEEP_MIN:
        parser.error(f"--deep: at least {DEEP_MIN:,}, so that it stays long while it is measured")
    if options.profile is not None:
        options.profile.mkdir(parents=True, exist_ok=True)
        os.environ[PROFILE_VARIABLE] = str(options.profile.absolute())
    options.rounds = options.rounds or 3
    wanted = options.only.split(",")
    for name in wanted:
        if name not in BY_NAME:
            parser.error(f"--only: {name} is none of {names}")
    options.contenders = [it for it in CONTENDERS if it.name in wanted]
    return options


async def measure(options: argparse.Namespace, results: Results, depths: Depths) -> dict[str, str]:
    """Measure all, and say on what it was done."""
    contenders: list[Contender] = options.contenders
    before = load_average()
    async with open_lab(contenders, options.environments) as (lab, described):
        described["load average before"] = before
        print_settings(contenders, described, options.seed)
        sys.stdout.flush()
        await prepare(lab, contenders)
        for number in range(options.rounds):
            await measure_round(lab, contenders, number, options.sizes, options.seed, results)
        if options.deep:
            turns = min(DEEP_TURNS, 3 * options.rounds)
            await measure_depth(lab, contenders, options.deep, turns, depths)
    return described


async def main(options: argparse.Namespace) -> int:
    """Measure and print; Ctrl-C and SIGTERM print what there is by then."""
    results: Results = {it.name: Tally() for it in options.contenders}
    depths: Depths = {}
    described: dict[str, str] = {}
    begun = time.monotonic()

    async def run() -> None:
        described.update(await measure(options, results, depths))

    seconds_max = TURN_SECONDS_MAX * (options.rounds + 1) * len(options.contenders)
    status = await run_session(run, seconds_max=seconds_max + DEEP_SECONDS_MAX)
    is_complete = print_results(options.contenders, results)
    print_targets(options.contenders, results, depths)
    print(f"\nload average after {load_average()}, {time.monotonic() - begun:.0f} s in all")
    if options.json:
        found = as_json(options.contenders, described, options.seed, results)
        found["depths"] = {name: asdict(depth) for name, depth in depths.items()}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return status or (0 if is_complete else 1)


if __name__ == "__main__":
    sys.exit(trio.run(main, parse()))
