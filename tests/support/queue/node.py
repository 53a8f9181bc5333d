"""A worker as another program embeds it, for tests that stop it, kill it and cut it off.

Settings come from the environment. What happens is noted in a file of the folder; SIGTERM drains.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

import sercha
from sercha.adapters.postgres.pool import open_pool
from sercha.settings import Role
from sercha.telemetry.logs import configure_logs
from tests.support.queue.history import Journal
from tests.support.queue.kinds import Kinds
from tests.support.queue.mutants import MUTANTS, prepare

LOOK_INTERVAL = 0.1
LATE_SECONDS = 0.2
"""A look that is later than this says that the machine did not let the process run."""


async def watch_lateness(journal: Journal, life: int) -> None:
    """Note the times in which this process was not run, or its loop was blocked."""
    while True:
        planned = time.monotonic() + LOOK_INTERVAL  # Trio's clock is another one
        await trio.sleep(LOOK_INTERVAL)
        if time.monotonic() - planned > LATE_SECONDS:
            journal.note("node.late", life=life, begun_at=planned)


async def drain_on_signal(drain: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            drain.set()


async def main(options: argparse.Namespace) -> None:
    settings = sercha.load_settings(os.environ, role=Role.WORKER)
    configure_logs(role="worker", level=settings.log_level, log_format="json")
    journal = Journal(options.folder, f"node-{options.life}")
    prepare(options.mutant, journal, options.life)
    assert settings.database_url is not None
    drain = trio.Event()
    async with open_pool(settings.database_url) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(watch_lateness, journal, options.life)
        nursery.start_soon(drain_on_signal, drain)
        kinds = Kinds(journal, options.life, pool, settings)
        async with trio.open_nursery() as working:
            run = partial(sercha.run_worker, settings, handlers=kinds.handlers(), drain=drain)
            if await working.start(run) is not None:  # else it was drained before
                journal.note("node.started", life=options.life)
        nursery.cancel_scope.cancel()
    journal.note("node.ended", life=options.life)


def run(arguments: Sequence[str]) -> None:
    """Be a worker until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), action="append", default=[])
    trio.run(main, parser.parse_args(arguments))
