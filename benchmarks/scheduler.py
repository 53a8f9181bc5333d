"""How long a step of the scheduler takes: ``python benchmarks/scheduler.py [schedules] [due]``.

Against a floor of the same run: the same rows written in the same batches by bare ``INSERT ... SELECT`` in the
server, without a fence, without reading a schedule, without anything of ours. Prints one line per measure; the
rounds alternate, and medians are compared.
"""

from __future__ import annotations

import logging
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lockd import hold
from lockd.postgres import TrioConnection
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_servers import data_folder
from sercha.adapters.postgres.leases import open_postgres_leases
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.schedules import PostgresScheduleStore
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.services.scheduler import SLOTS_MAX, Tick, Ticker

ROUNDS = 5

FILL = """
INSERT INTO schedule (id, name, kind, spec, tz, anchor, task_kind, payload, next_slot)
SELECT gen_random_uuid(), 'schedule ' || n, CASE WHEN n %% 2 = 0 THEN 'interval' ELSE 'cron' END,
       CASE WHEN n %% 2 = 0 THEN '1h' ELSE '0 * * * *' END, 'Europe/Berlin',
       date_trunc('hour', now()) - interval '10 days', 'sync_source',
       jsonb_build_object('source_id', gen_random_uuid()), date_trunc('hour', now()) + interval '1 hour'
FROM generate_series(1, %s) AS n
"""
DUE = """
UPDATE schedule SET next_slot = CASE WHEN number <= %s THEN date_trunc('hour', now())
                                     ELSE date_trunc('hour', now()) + interval '1 hour' END
FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM schedule) AS numbered
WHERE schedule.id = numbered.id
"""
CLEAR = (
    "TRUNCATE schedule_slot",
    "DELETE FROM task",
    "VACUUM ANALYZE schedule, schedule_slot, task",
)

FLOOR = (
    """CREATE TEMP TABLE IF NOT EXISTS batch AS
       SELECT gen_random_uuid() AS id, gen_random_uuid() AS task_id FROM generate_series(1, 0)""",
    "TRUNCATE batch",
    """INSERT INTO batch SELECT id, gen_random_uuid() FROM schedule
       WHERE enabled AND next_slot <= now() ORDER BY next_slot, id LIMIT %s""",
    """INSERT INTO schedule_slot (schedule_id, slot, slot_last, outcome, task_id)
       SELECT id, date_trunc('hour', now()), date_trunc('hour', now()), 'enqueued', task_id FROM batch""",
    """INSERT INTO task (id, kind, payload, dedupe_key, concurrency_key)
       SELECT task_id, 'sync_source', jsonb_build_object('source_id', id), 'sync:' || id, 'source:' || id
       FROM batch""",
    """UPDATE schedule SET next_slot = next_slot + interval '1 hour' FROM batch
       WHERE schedule.id = batch.id""",
)  # fmt: skip


@asynccontextmanager
async def open_database() -> AsyncGenerator[ConnectionPool]:
    with tempfile.TemporaryDirectory(prefix="sercha-scheduler-") as name:
        folder = Path(name)
        # As root PostgreSQL has an account of its own, which must get through.
        os.chmod(folder, 0o711)
        with data_folder(folder / "data") as data:
            async with (
                embedded_postgres(data, shelter=folder / "shelter") as server,
                open_pool(server.conninfo) as pool,
            ):
                await migrate(pool)
                yield pool


async def prepare(pool: ConnectionPool, due: int) -> None:
    async with pool.connection() as connection:
        await connection.execute(DUE, [due])
        for statement in CLEAR:
            await connection.execute(statement)


async def floor(pool: ConnectionPool, due: int) -> float:
    await prepare(pool, due)
    async with pool.connection() as connection:
        started_at = time.perf_counter()
        for _ in range(-(-due // SLOTS_MAX)):
            async with connection.transaction():
                for statement in FLOOR:
                    values = [SLOTS_MAX] if "%s" in statement else None
                    await connection.execute(statement.encode(), values)
        return time.perf_counter() - started_at


async def ours(pool: ConnectionPool, due: int) -> tuple[float, Tick, int]:
    await prepare(pool, due)
    ticker = Ticker(PostgresScheduleStore(pool), PostgresTaskQueue(pool))
    async with (
        open_postgres_leases(pool, max_open=10) as leases,
        hold(leases, "scheduler", ttl=60) as lease,
    ):
        count = Statements()
        with count:
            started_at = time.perf_counter()
            tick = await ticker.tick(partial(pool.fenced, lease), token=lease.token)
            seconds = time.perf_counter() - started_at
    assert tick.schedules == due, tick
    return seconds, tick, count.total


class Statements:
    """Counts the statements of this process, BEGIN and COMMIT left out."""

    def __init__(self) -> None:
        self.total = 0
        self._execute = TrioConnection.execute

    def __enter__(self) -> None:
        execute = self._execute

        async def counting(connection: Any, *args: Any, **more: Any) -> Any:
            self.total += 1
            return await execute(connection, *args, **more)

        TrioConnection.execute = counting  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        TrioConnection.execute = self._execute  # type: ignore[method-assign]


def resident_mb() -> float:
    """Return the most memory that this process had so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform == "linux" else 1024**2)


async def main(schedules: int, due: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with open_database() as pool:
        async with pool.connection() as connection:
            await connection.execute(FILL, [schedules])
        few = max(1, due // 10)
        await ours(pool, few)  # warm
        times: dict[str, list[float]] = {
            "floor": [], "floor, a tenth": [], "ours": [], "ours, a tenth": []
        }  # fmt: skip
        statements = Counter[int]()
        before = resident_mb()
        for _ in range(ROUNDS):
            times["floor"].append(await floor(pool, due))
            times["floor, a tenth"].append(await floor(pool, few))
            seconds, tick, count = await ours(pool, due)
            times["ours"].append(seconds)
            statements[count] += 1
            times["ours, a tenth"].append((await ours(pool, few))[0])
            assert sum(tick.outcomes.values()) == due
        after = resident_mb()
    medians = {name: statistics.median(values) for name, values in times.items()}
    batches = -(-due // SLOTS_MAX)
    print(f"{schedules} schedules, {due} due, batches of {SLOTS_MAX}, {ROUNDS} rounds")
    for name, values in times.items():
        print(f"{name:16} median {medians[name]:.3f} s   {min(values):.3f} to {max(values):.3f}")
    print(f"one step is {medians['ours'] / medians['floor']:.2f} times the floor")
    growth = {name: medians[name] / medians[f"{name}, a tenth"] for name in ("ours", "floor")}
    print(
        f"ten times as many due take {growth['ours']:.1f} times as long, the floor {growth['floor']:.1f}"
    )
    most = max(statements)
    print(f"{most} statements: {most / batches:.1f} for each batch, {most / due:.3f} for each slot")
    print(f"{after - before:.1f} MB more resident at the peak")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    trio.run(main, *(numbers or [100_000, 10_000]))
