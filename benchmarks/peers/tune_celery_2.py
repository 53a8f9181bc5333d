"""Celery on Redis, acknowledged late."""

from __future__ import annotations

from celery import Celery

from benchmarks.peers.queue_desk import Desk, enqueue

WORKER = ("worker", "--pool=threads", "--concurrency=10", "--loglevel=ERROR", "--without-gossip", "--without-mingle")


def main() -> None:
    desk = Desk()
    app = Celery("queue", broker=desk.redis_url)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=100,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="noop")  # methods and lambdas are no tasks
    def noop(sent: float) -> None:
        desk.run(sent)

    app.finalize()
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
    if desk.command == "work":
        desk.go_to_work()
        app.worker_main([*WORKER, "--without-heartbeat"])
    enqueue(desk, noop.delay, None)


if __name__ == "__main__":
    main()
