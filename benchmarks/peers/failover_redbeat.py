"""Contenders by RedBeat: Celery's real beat service with RedBeat's scheduler, its lock and its tick.

An act is an entry that is due at each tick; its task is carried out by the tick itself (``task_always_eager``),
where otherwise it would publish a message. A beat that has lost its lock ends by the error of its next tick; what
would be a new process then is a new service here.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

import psycopg
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init
from redbeat import RedBeatScheduler
from redis.exceptions import LockError

from benchmarks.peers.failover_desk import ACQUISITION, ACT, Desk

TICK_SECONDS = 0.005


class Beat:
    """One process's services, one after another."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._app = make_app(desk)

        @self._app.task(name="failover.act")  # methods and lambdas are no tasks
        def act() -> None:
            self._act()

        self._app.finalize()
        self._service: Service | None = None
        self._tenure = ""
        self._ledger: psycopg.Connection[Any] | None = None
        if desk.acts:
            self._ledger = psycopg.connect(desk.postgres_url, autocommit=True)
        # After RedBeat's own receiver, which takes the lock: it was connected when RedBeat was imported.
        beat_init.connect(self._begin)
        signal.signal(signal.SIGUSR1, self._end)

    def contend(self) -> None:
        """Wait for the lock and tick until the signal or the loss."""
        self._service = Service(self._app, scheduler_cls=RedBeatScheduler)
        assert self._service.scheduler.lock_timeout == self._desk.ttl
        self._desk.tell("waiting")
        with suppress(LockError):
            self._service.start()

    def _begin(self, sender: Service, **_: object) -> None:
        assert sender.scheduler.lock is not None, "RedBeat could not acquire its lock"
        self._tenure = uuid4().hex
        self._desk.tell("acquired", tenure=self._tenure)
        if self._ledger is not None:
            self._ledger.execute(ACQUISITION, self._desk.row(self._tenure))

    def _end(self, _: int, __: FrameType | None) -> NoReturn:
        """End as `celery beat` does when it is told to."""
        assert self._service is not None
        self._desk.tell("ending")
        self._service.sync()
        raise SystemExit

    def _act(self) -> None:
        assert self._ledger is not None
        time.sleep(self._desk.work_seconds())
        self._ledger.execute(ACT, self._desk.row(self._tenure))


def make_app(desk: Desk) -> Celery:
    """Set Celery and RedBeat so that the lock's timeout is the TTL, at their own ratio to the interval."""
    app = Celery("failover", broker=desk.redis_url)
    app.conf.update(
        redbeat_redis_url=desk.redis_url,
        redbeat_key_prefix=f"{desk.lease}:",
        redbeat_lock_timeout=desk.ttl,
        beat_max_loop_interval=desk.ttl / 5,
        beat_enable_remote_control=False,
        task_always_eager=True,
        task_eager_propagates=True,
        result_expires=None,  # otherwise there is one more entry, to clean results up
    )
    if desk.acts:
        app.conf.beat_schedule = {
            "act": {"task": "failover.act", "schedule": timedelta(seconds=TICK_SECONDS)}
        }
    return app


def main() -> None:
    desk = Desk()
    beat = Beat(desk)
    desk.open()
    while True:
        desk.wait_to_contend()
        beat.contend()
        desk.tell("ended")


if __name__ == "__main__":
    main()
