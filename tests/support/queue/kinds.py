"""What the tasks of the queue's fault tests do. Each run notes its beginning and its end outside of the queue."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import trio

from sercha.adapters.postgres import task_sql
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.task import Claim
from sercha.errors import ClaimLost, Rejected, Transient
from sercha.services.attempt import Attempt, Handler, Interrupted
from sercha.settings import Settings
from tests.support.hanging import hang
from tests.support.queue.history import Journal

SCHEMA = """
CREATE SEQUENCE history_seq;
CREATE TABLE history_move (
    seq bigint NOT NULL DEFAULT nextval('history_seq'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    task uuid NOT NULL, before text, after text NOT NULL, attempt integer NOT NULL, owner uuid, tries_before integer NOT NULL, tries_after integer NOT NULL);
CREATE TABLE history_effect (
    seq bigint NOT NULL DEFAULT nextval('history_seq'), task uuid NOT NULL, attempt integer NOT NULL,
    owner uuid NOT NULL);
CREATE TABLE history_done (task uuid PRIMARY KEY);

-- The number is drawn while the task's row is locked, as that of an effect is: their order is the true one.
CREATE FUNCTION history_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO history_move (task, before, after, attempt, owner, tries_before, tries_after)
        VALUES (NEW.id, NULL, NEW.state, NEW.attempt, NEW.owner, NEW.tries, NEW.tries);
    ELSE
        INSERT INTO history_move (task, before, after, attempt, owner, tries_before, tries_after)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt,
                CASE NEW.state WHEN 'running' THEN NEW.owner ELSE OLD.owner END, OLD.tries, NEW.tries);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER history_added AFTER INSERT ON task FOR EACH ROW EXECUTE FUNCTION history_note();
CREATE TRIGGER history_moved AFTER UPDATE ON task FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt) EXECUTE FUNCTION history_note();
"""
EFFECT = b"INSERT INTO history_effect (task, attempt, owner) VALUES (%s, %s, %s)"
DONE = b"INSERT INTO history_done VALUES (%s) ON CONFLICT DO NOTHING"

Work = Callable[[Attempt], Awaitable[None]]


class Kinds:
    """The handlers of one life, by kind."""

    def __init__(
        self, journal: Journal, life: int, pool: ConnectionPool, settings: Settings
    ) -> None:
        assert settings.database_url is not None
        self._journal = journal
        self._life = life
        self._database_url = settings.database_url
        self._pool = pool
        self._queue = PostgresTaskQueue(pool, claim_ttl=settings.worker_claim_ttl)
        self._random = random.Random(life)

    def handlers(self) -> Mapping[str, Handler]:
        """Return all kinds."""
        works: dict[str, Work] = {
            "instant": self._instant,
            "short": self._short,
            "long": self._short,
            "flaky": self._flaky,
            "rejected": self._rejected,
            "poison": self._poison,
            "effect": self._effect,
            "effect_then_kill": self._effect_then_kill,
            "gate": self._gate,
            "polite_gate": self._gate,
            "stop_in_page": self._stop_in_page,
            "starve": self._starve,
            "blind": self._blind,
            "prune": self._instant,  # what schedules ask for, without the work
            "reindex": self._instant,
        }
        return {kind: partial(self._run, work) for kind, work in works.items()}

    async def _run(self, work: Work, attempt: Attempt) -> None:
        claim = attempt.claim
        note = partial(self._note, claim)
        note("run.started", owner=str(claim.owner), kind=claim.kind, n=claim.payload.get("n"))
        how = "cancelled"
        try:
            await work(attempt)
            how = "returned"
        except Interrupted:
            how = "interrupted"
            raise
        except Rejected:
            how = "rejected"
            raise
        except ClaimLost:
            how = "lost"
            raise
        except Exception:
            how = "failed"
            raise
        finally:
            note("run.ended", how=how)

    def _note(self, claim: Claim, event: str, **details: Any) -> None:
        self._journal.note(
            event, life=self._life, task=str(claim.task_id), attempt=claim.attempt, **details
        )

    def _kill_myself(self, claim: Claim) -> None:
        self._note(claim, "node.killing_itself")
        os.kill(os.getpid(), signal.SIGKILL)

    async def _instant(self, attempt: Attempt) -> None:
        pass

    async def _short(self, attempt: Attempt) -> None:
        seconds = float(str(attempt.claim.payload["seconds"]))
        # As much time goes into computing as into waiting, but never long enough to be late with a beat.
        time.sleep(min(seconds / 2, 0.005))  # noqa: ASYNC251
        await trio.sleep(seconds / 2)

    async def _flaky(self, attempt: Attempt) -> None:
        await trio.sleep(0.001)
        if attempt.claim.tries <= int(str(attempt.claim.payload["failures"])):
            raise Transient("it fails, as it was asked to")

    async def _rejected(self, attempt: Attempt) -> None:
        await trio.lowlevel.checkpoint()
        raise Rejected("never, as it was asked to")

    async def _poison(self, attempt: Attempt) -> None:
        self._kill_myself(attempt.claim)

    async def _effect(self, attempt: Attempt) -> None:
        await self._short(attempt)
        await self._write(attempt.claim)

    async def _effect_then_kill(self, attempt: Attempt) -> None:
        await self._write(attempt.claim)
        if attempt.claim.attempt == 1:
            self._kill_myself(attempt.claim)

    async def _write(self, claim: Claim) -> None:
        """Commit an effect under the claim; what it does is there once, however often it is done."""
        async with self._pool.transaction() as tx:
            await self._queue.verify(tx, claim)
            await trio.sleep(self._random.uniform(0, 0.005))
            token = (claim.task_id, claim.attempt, claim.owner)
            await tx.connection.execute(EFFECT, token)
            await tx.connection.execute(DONE, (claim.task_id,))

    async def _gate(self, attempt: Attempt) -> None:
        """Wait until the test makes the file; a polite one stops when the worker drains."""
        gate = trio.Path(str(attempt.claim.payload["gate"]))
        while not await gate.exists():
            if attempt.claim.kind == "polite_gate" and attempt.draining.is_set():
                raise Interrupted
            await trio.sleep(0.02)

    async def _stop_in_page(self, attempt: Attempt) -> None:
        """Stand still at the first attempt, while a transaction holds the claim."""
        claim = attempt.claim
        async with self._pool.transaction() as tx:
            await self._queue.verify(tx, claim)
            if claim.attempt == 1:
                self._note(claim, "page.held")
                self._journal.note("node.stopping", life=self._life)
                os.kill(os.getpid(), signal.SIGSTOP)
            await tx.connection.execute(EFFECT, (claim.task_id, claim.attempt, claim.owner))

    async def _starve(self, attempt: Attempt) -> None:
        """Block the loop at the first attempt, so that no beat gets through, and return as if all were well."""
        if attempt.claim.attempt == 1:
            hang(Path(str(attempt.claim.payload["until"])))
        else:
            await self._gate(attempt)

    async def _blind(self, attempt: Attempt) -> None:
        """Write an effect by a library that knows no checkpoints, at the first attempt after having hung."""
        claim = attempt.claim
        if claim.attempt == 1:
            hang(Path(str(claim.payload["until"])))
        token = {"id": claim.task_id, "owner": claim.owner, "attempt": claim.attempt}
        with psycopg.connect(self._database_url) as connection:
            if connection.execute(task_sql.VERIFY, token).fetchone() is None:
                raise ClaimLost("it went to somebody else")
            connection.execute(EFFECT, (claim.task_id, claim.attempt, claim.owner))
        await trio.lowlevel.checkpoint()
