"""Workers in processes of their own, on real servers, with everything that happens to them written down.

    async with open_rig(postgres_url, redis_server, ttl=2.0) as rig:
        node = await rig.start()
        await rig.add(NewTask("short", {"seconds": 0.01}))
        await rig.kill(node)
        ...
        await rig.drained(60)
        rig.judge(await rig.finish())

The folder with the histories and logs is kept, and named, when the block fails.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import trio

import sercha
from lockd.postgres import TrioConnection
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import open_pool
from sercha.domain.task import NewTask
from sercha.errors import Transient
from sercha.settings import Role
from tests.support.docs import ROOT
from tests.support.queue.checks import Verdict, check
from tests.support.queue.history import LEDGER, Event, History, Journal, read_history
from tests.support.queue.kinds import SCHEMA
from tests.support.queue.process import LOOK_SECONDS, Hatchery, Node, open_hatchery
from tests.support.redis import RedisServer
from tests.support.sercha import environment

START_SECONDS = 60
STOP_SECONDS = 60
STREAM, GROUP = "sercha:tasks", "sercha:workers"

DUMPS = {
    "ledger.row": """
        SELECT id::text AS task, (payload->>'n')::integer AS n, state, attempt, tries, tries_max, last_error
        FROM task""",
    "ledger.move": """
        SELECT seq, task::text, before, after, attempt, owner::text, tries_before, tries_after,
               extract(epoch FROM at)::float8 - %(realtime)s AS moved_at
        FROM history_move ORDER BY seq""",
    "ledger.effect": """
        SELECT seq, task::text, attempt, owner::text FROM history_effect ORDER BY seq""",
    "ledger.slot": """
        SELECT schedule_id::text AS schedule, extract(epoch FROM slot)::bigint AS slot,
               extract(epoch FROM slot_last)::bigint AS slot_last, outcome, task_id::text AS task
        FROM schedule_slot""",
    "ledger.schedule": """
        SELECT id::text AS schedule, trim(trailing 's' FROM spec)::integer AS step,
               extract(epoch FROM anchor)::bigint AS first, extract(epoch FROM next_slot)::bigint AS next_slot
        FROM schedule WHERE spec ~ '^[0-9]+s$'""",
}


class Rig:
    """The workers, the servers and the records; made by `open_rig`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        hatchery: Hatchery,
        folder: Path,
        journal: Journal,
        variables: dict[str, str],
        redis: RedisServer | None,
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.nodes: list[Node] = []
        self.crashes: list[str] = []
        self.replaces = False
        """Whether a node that has ended by itself or by a kill is replaced by a new one."""
        self.journal = journal
        self.own_queue: Any = None
        self._nursery = nursery
        self._hatchery = hatchery
        self._lives = 0
        self._variables = variables
        self._numbers = 0

    @property
    def postgres(self) -> str:
        return self._variables["DATABASE_URL"]

    @property
    def alive(self) -> list[Node]:
        """The nodes that run, those that stand still included."""
        return [node for node in self.nodes if node.is_alive]

    # Workers.

    async def spawn(self, *options: str, **variables: str) -> Node:
        """Begin a worker; settings other than the rig's lead through proxies."""
        self._lives += 1
        life = self._lives
        arguments = [*options, "--life", str(life), "--folder", str(self.folder)]
        env = environment(self.folder, **{**self._variables, **variables})
        process = await self._hatchery.make(life, arguments, env, self.folder / f"node-{life}.log")
        node = Node(life, process, self.folder, options, variables)
        self.nodes.append(node)
        self.journal.note("node.spawned", life=life, pid=process.pid, options=options)
        self._nursery.start_soon(self._watch, node)
        return node

    async def start(self, *options: str, **variables: str) -> Node:
        """Begin a worker and wait until it claims tasks."""
        node = await self.spawn(*options, **variables)
        await node.wait_for("node.started", START_SECONDS)
        return node

    async def _watch(self, node: Node) -> None:
        status = await node.process.wait()
        self.journal.note("node.gone", life=node.life, status=status)
        expected = {-signal.SIGKILL}
        if node.is_asked_to_end:
            # SIGTERM ends a process whose interpreter has not come to listen for it: it has claimed nothing yet.
            expected |= {0} if node.has_started else {0, -signal.SIGTERM}
        if status not in expected:
            self.crashes.append(f"life {node.life} ended with {status}:\n{node.log[-2000:]}")
        if self.replaces and not node.is_asked_to_end:
            await self.spawn(*node.options, **node.variables)

    def kill(self, node: Node) -> None:
        """SIGKILL; also a process that stands still ends by it."""
        if node.is_alive:
            self.journal.note("node.killing", life=node.life)
            node.process.send_signal(signal.SIGKILL)

    def stop(self, node: Node) -> None:
        """SIGSTOP."""
        if node.is_alive:
            self.journal.note("node.stopping", life=node.life)
            node.is_stopped = True
            node.process.send_signal(signal.SIGSTOP)

    def go_on(self, node: Node) -> None:
        """SIGCONT after `stop`."""
        if node.is_alive:
            node.process.send_signal(signal.SIGCONT)
            node.is_stopped = False
            self.journal.note("node.continued", life=node.life)

    def ask_to_end(self, node: Node) -> None:
        """SIGTERM: drain."""
        node.is_asked_to_end = True
        if node.is_alive:
            self.journal.note("node.ending", life=node.life)
            node.process.send_signal(signal.SIGTERM)

    async def end(self, node: Node, seconds: float = STOP_SECONDS) -> int:
        """Ask to end and wait for it; returns the exit status."""
        self.ask_to_end(node)
        with trio.fail_after(seconds):
            return await node.process.wait()

    # Tasks.

    async def add(self, *tasks: NewTask) -> list[UUID]:
        """Enqueue tasks on the rig's own queue; each gets a number."""
        return await self.add_to(self.own_queue, tasks)

    @asynccontextmanager
    async def queue(self, **variables: str) -> AsyncGenerator[Any]:
        """Open the queue as another program does that enqueues."""
        environ = {**self._variables, **variables}
        settings = sercha.load_settings(environ, role=Role.WORKER)
        async with sercha.open_queue(settings) as queue:
            yield queue

    async def add_to(self, queue: Any, tasks: Sequence[NewTask]) -> list[UUID]:
        """Enqueue tasks and note the answer; with an error, that the outcome is not known."""
        numbered = [self._numbered(task) for task in tasks]
        numbers = [int(str(task.payload["n"])) for task in numbered]
        try:
            ids: list[UUID] = await queue.add(numbered)
        except Transient as error:
            for n in numbers:
                self.journal.note("enqueue.unknown", n=n, error=error.message)
            raise
        for n, task_id in zip(numbers, ids, strict=True):
            self.journal.note("enqueue.acknowledged", n=n, task=str(task_id))
        return ids

    def _numbered(self, task: NewTask) -> NewTask:
        self._numbers += 1
        self.journal.note(
            "enqueue.asked",
            n=self._numbers,
            kind=task.kind,
            tries_max=task.tries_max,
            delay=task.delay,
            dedupe_key=task.dedupe_key,
            concurrency_key=task.concurrency_key,
        )
        return replace(task, payload={**task.payload, "n": self._numbers})

    async def enqueue_elsewhere(self, number: int, *options: str) -> int:
        """Enqueue from a process of its own, which may die of it; returns its exit status."""
        first, self._numbers = self._numbers + 1, self._numbers + number
        command = [sys.executable, "-m", "tests.support.queue.enqueuer", *options]
        command += ["--life", str(first), "--folder", str(self.folder)]
        command += ["--first", str(first), "--number", str(number)]
        env = environment(self.folder, **self._variables)
        process = await trio.run_process(command, check=False, cwd=ROOT, env=env)
        return process.returncode

    def gate(self, name: str = "gate") -> Path:
        """Return what tasks of kind `gate` wait for; touch it to let them go on."""
        return self.folder / name

    # Redis.

    async def restart_redis(self, *, forgets: bool) -> None:
        """SIGKILL the server, and start it again with or without what it had."""
        assert self.redis is not None
        self.journal.note("redis.killing", forgets=forgets)
        await trio.to_thread.run_sync(self.redis.kill)
        if forgets:
            shutil.rmtree(self.redis.folder / "appendonlydir")
        await trio.to_thread.run_sync(self.redis.start)
        self.journal.note("redis.started")

    async def redis_command(self, *command: str) -> Any:
        """Run one command of Redis, and note it."""
        assert self.redis is not None
        self.journal.note("redis.command", command=command)
        return await trio.to_thread.run_sync(self.redis.execute, *command)

    async def entries(self) -> int:
        """Count the entries of the stream."""
        assert self.redis is not None
        return int(await trio.to_thread.run_sync(self.redis.execute, "XLEN", STREAM))

    # The ledger.

    async def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Run a query on the ledger, on a connection of its own."""
        connection = await TrioConnection[Any].connect(self.postgres, autocommit=True)
        try:
            cursor = await connection.execute(query.encode(), parameters)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
        finally:
            connection.finish()

    async def number(self, query: str, **parameters: object) -> int:
        """Return the one number that a query gives."""
        (row,) = await self.rows(query, **parameters)
        return int(next(iter(row.values())))

    async def unfinished(self) -> int:
        return await self.number("SELECT count(*) FROM task WHERE state IN ('queued', 'running')")

    async def drained(self, seconds: float) -> None:
        """Return when no task is queued or running; raises `AssertionError` with what is left."""
        with trio.move_on_after(seconds):
            while await self.unfinished():
                await trio.sleep(0.1)
            return
        left = await self.rows(
            "SELECT id::text, kind, state, attempt, tries, owner::text, run_at::text, last_error FROM task"
            " WHERE state IN ('queued', 'running') LIMIT 10"
        )
        await self.finish()
        raise AssertionError(f"not drained within {seconds} s: {left}")

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Return when the condition holds; raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(LOOK_SECONDS)

    def runs(self, **details: object) -> list[Event]:
        """Return the runs that have begun so far, of all nodes, in order."""
        found = [
            event
            for node in self.nodes
            for event in node.look()
            if event["event"] == "run.started" and details.items() <= event.items()
        ]
        return sorted(found, key=lambda event: event["at"])

    # The end.

    async def finish(self) -> History:
        """End all workers, write down the ledger, and read the history."""
        self.replaces = False
        for node in self.alive:
            if node.is_stopped:
                self.go_on(node)
            self.ask_to_end(node)
        with trio.move_on_after(STOP_SECONDS):
            for node in self.nodes:
                await node.process.wait()
        for node in self.alive:
            self.crashes.append(f"life {node.life} did not end:\n{node.log[-2000:]}")
            self.kill(node)
        ledger = Journal(self.folder, LEDGER)
        for event, query in DUMPS.items():
            for row in await self.rows(query, realtime=time.time() - time.monotonic()):
                ledger.note(event, **row)
        ledger.close()
        return await trio.to_thread.run_sync(read_history, self.folder)

    def judge(self, history: History) -> Verdict:
        """Check the history and the ends of the workers; raises `AssertionError` with what is wrong."""
        verdict = check(history)
        print(verdict.report())
        assert verdict.violations == (), verdict.report()
        assert self.crashes == [], "\n".join(self.crashes)
        for node in self.nodes:
            assert "Traceback" not in node.log, node.log
        return verdict

    async def close(self) -> None:
        """Kill what still runs."""
        self.replaces = False
        for node in self.alive:
            node.is_asked_to_end = True
            node.process.send_signal(signal.SIGKILL)
            await node.process.wait()


@asynccontextmanager
async def quiet() -> AsyncGenerator[None]:
    """Let what of the product runs in this process say only what is wrong."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        yield
    finally:
        structlog.configure(**before)


@asynccontextmanager
async def open_rig(
    postgres_url: str, redis: RedisServer | None, *, ttl: float, slots: int = 4, **more: str
) -> AsyncGenerator[Rig]:
    """Make the tables, then workers may be started; all have ended when the block has."""
    folder = Path(tempfile.mkdtemp(prefix="sercha-queue-"))
    variables = {
        "DATABASE_URL": postgres_url,
        "MASTER_KEY": secrets.token_hex(32),
        "WORKER_CONCURRENCY": str(slots),
        "WORKER_CLAIM_TTL": f"{ttl}s",
        "LOG_LEVEL": "warning",
        "SCHEDULER_ENABLED": "false",
        **({"REDIS_URL": redis.url} if redis is not None else {}),
        **more,
    }
    async with open_pool(postgres_url) as pool:
        await migrate(pool)
        async with pool.connection() as connection:
            await connection.execute(SCHEMA.encode())
    journal = Journal(folder, "driver")
    try:
        async with (
            open_hatchery(environment(folder)) as hatchery,
            trio.open_nursery() as nursery,
        ):
            rig = Rig(nursery, hatchery, folder, journal, variables, redis)
            try:
                async with quiet(), rig.queue() as rig.own_queue:
                    yield rig
            finally:
                with trio.CancelScope(shield=True):
                    await rig.close()
    except BaseException:
        print(f"the history is kept: python -m tests.support.queue.checks {folder}")
        raise
    finally:
        journal.close()
    shutil.rmtree(folder)
