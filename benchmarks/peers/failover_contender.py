"""Contenders by redis-py's Lock and by python-redis-lock, used as their documentation says.

Both look at the key in Redis right before each act, which is more than python-redis-lock's own example does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis
import redis_lock
from redis.exceptions import LockError
from redis.lock import Lock

from benchmarks.peers.failover_desk import Desk, block_end_signal, serve


@contextmanager
def redis_py(desk: Desk, client: redis.Redis) -> Iterator[Callable[[], bool]]:
    """Hold redis-py's lock with a thread that reacquires it; give what says whether it is held."""
    lock = client.lock(desk.lease, timeout=desk.ttl, thread_local=False)
    lock.acquire()
    lost, stopping = threading.Event(), threading.Event()
    renewal = threading.Thread(
        target=_renew, args=(lock, desk.ttl / 3, lost, stopping), daemon=True
    )
    renewal.start()
    try:
        yield lambda: not lost.is_set() and lock.owned()
    finally:
        stopping.set()
        renewal.join()
        with suppress(LockError):
            lock.release()


def _renew(lock: Lock, seconds: float, lost: threading.Event, stopping: threading.Event) -> None:
    while not stopping.wait(seconds):
        try:
            lock.reacquire()
        except LockError:
            lost.set()
            return


@contextmanager
def python_redis_lock(desk: Desk, client: redis.Redis) -> Iterator[Callable[[], bool]]:
    """Hold python-redis-lock's lock with its own renewal; give what says whether it is held."""
    lock = redis_lock.Lock(client, desk.lease, expire=desk.ttl, auto_renewal=True)
    lock.acquire()
    renewal = lock._lock_renewal_thread
    assert renewal is not None
    try:
        yield lambda: renewal.is_alive() and lock.get_owner_id() == lock.id
    finally:
        with suppress(redis_lock.NotAcquired):
            lock.release()


KINDS = {"redis-py": redis_py, "python-redis-lock": python_redis_lock}


def main() -> None:
    block_end_signal()
    desk = Desk()
    threading.excepthook = lambda _: None  # a renewal that found the lock gone ends by an error
    client = redis.Redis.from_url(desk.redis_url)
    hold = KINDS[desk.system]
    client.ping()
    desk.open()
    while True:
        desk.wait_to_contend()
        desk.tell("waiting")
        with hold(desk, client) as holds:
            serve(desk, holds)
        desk.tell("ended")


if __name__ == "__main__":
    main()
