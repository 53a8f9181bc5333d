"""Dramatiq on Redis: what `dramatiq -p 1` runs in its one worker process."""

from __future__ import annotations

import os
import threading

from benchmarks.peers.queue_desk import Desk, enqueue

THREADS = {"tuned": 2, "default": 8}
TIMEOUT_MS = {"tuned": 20, "default": 1_000}
PREFETCH = {"tuned": "500", "default": "0"}
"""0: twice the number of threads."""


def main() -> None:
    desk = Desk()
    # Read when it is imported, in small letters.
    os.environ["dramatiq_queue_prefetch"] = PREFETCH[desk.variant]  # noqa: SIM112
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.middleware import Retries

    middleware = [Retries()] if desk.variant == "tuned" else None
    broker = RedisBroker(url=desk.redis_url, middleware=middleware)
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def noop(sent: float) -> None:
        desk.run(sent)

    broker.client.ping()
    if desk.command == "work":
        worker = dramatiq.Worker(
            broker,
            worker_threads=THREADS[desk.variant],
            worker_timeout=TIMEOUT_MS[desk.variant],
        )
        desk.go_to_work()
        worker.start()
        threading.Event().wait()
    enqueue(desk, noop.send, None)


if __name__ == "__main__":
    main()
