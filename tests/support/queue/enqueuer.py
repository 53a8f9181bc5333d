"""A program that enqueues tasks and ends, or is ended at one point of it.

Settings come from the environment; what it is told is printed as the history has it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import trio

import sercha
from sercha.domain.task import NewTask
from sercha.settings import Role
from tests.support.queue.history import Journal
from tests.support.queue.mutants import MUTANTS, prepare


async def main(options: argparse.Namespace) -> None:
    journal = Journal(options.folder, f"enqueuer-{options.life}")
    prepare(options.mutant, journal, options.life)
    settings = sercha.load_settings(os.environ, role=Role.WORKER)
    numbers = range(options.first, options.first + options.number)
    async with sercha.open_queue(settings) as queue:
        for n in numbers:
            journal.note("enqueue.asked", n=n, kind="instant")
        ids = await queue.add([NewTask("instant", {"n": n}) for n in numbers])
        for n, task_id in zip(numbers, ids, strict=True):
            journal.note("enqueue.acknowledged", n=n, task=str(task_id))
        await trio.sleep(5)  # the announcement is made beside us


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), action="append", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    trio.run(main, parse())
