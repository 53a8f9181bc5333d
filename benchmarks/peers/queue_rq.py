"""RQ on Redis, with its worker that does not fork for each job."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.peers.queue_desk import Desk, enqueue

DESK: list[Desk] = []
"""The one of this process: RQ looks its function up by name."""


def noop(sent: float) -> None:
    DESK[0].run(sent)


def main() -> None:
    desk = Desk()
    connection = Redis.from_url(desk.redis_url)
    connection.ping()
    queue = Queue(connection=connection)
    # This file runs as __main__; the worker finds the function in the module, and the desk with it.
    from benchmarks.peers import queue_rq

    queue_rq.DESK.append(desk)
    if desk.command == "work":
        logging.disable(logging.ERROR)
        worker = SimpleWorker([queue], connection=connection, log_job_description=False)
        desk.go_to_work()
        worker.work(logging_level="ERROR")

    def add(sent: float) -> None:
        queue.enqueue(queue_rq.noop, sent, result_ttl=0)

    def add_many(batch: Sequence[float]) -> None:
        queue.enqueue_many(
            [Queue.prepare_data(queue_rq.noop, args=(sent,), result_ttl=0) for sent in batch]
        )

    enqueue(desk, add, add_many)


if __name__ == "__main__":
    main()
