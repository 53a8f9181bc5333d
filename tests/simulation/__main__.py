"""Run seeds from the command line: `python -m tests.simulation --seeds 0:2500`, `--seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys

from .batch import ALL_MUTANTS, killer_of, replay, run_seeds
from .run import simulate


def main() -> int:
    """Return 1 when there was a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from and to, the end left out")
    parser.add_argument("--seed", type=int, help="run one seed only")
    parser.add_argument("--trace", action="store_true", help="tell everything that happens")
    parser.add_argument(
        "--mutant", choices=[*ALL_MUTANTS, "all"], help="stop at the first violation"
    )
    parser.add_argument("--json", action="store_true", help="figures for another process")
    parser.add_argument("--digest", action="store_true", help="only the hash of the trace")
    options = parser.parse_args()
    if options.seed is not None:
        return _one(options)
    first, _, end = options.seeds.partition(":")
    seeds = range(int(first), int(end))
    if options.mutant:
        names = list(ALL_MUTANTS) if options.mutant == "all" else [options.mutant]
        return max(_hunt(name, seeds) for name in names)
    figures = run_seeds(seeds)
    print(figures.to_json() if options.json else figures.table())
    if not options.json and figures.violations:
        print(figures.complaints())
    return int(bool(figures.violations))


def _one(options: argparse.Namespace) -> int:
    run = simulate(options.seed, ALL_MUTANTS[options.mutant]() if options.mutant else None)
    if options.digest:
        print(run.history.digest())
        return 0
    if options.trace:
        for event in run.history:
            print(event)
    for violation in run.violations:
        print(violation)
    return int(bool(run.violations))


def _hunt(name: str, seeds: range) -> int:
    run = killer_of(name, seeds)
    if run is None:
        print(f"{name} survives {len(seeds)} seeds")
        return 1
    print(f"{name} killed by seed {run.seed}: {run.violations[0]}\n    {replay(run.seed, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
