"""Trio's way of waiting for psycopg's generators, which do no waiting of their own.

psycopg writes the protocol as generators that say what they need the socket for (`Wait`) and are told what it
is ready for (`Ready`). A generator that was interrupted while it waited can be continued with ``next``: it
asks again for the same thing.
"""

from __future__ import annotations

import select
import sys
from typing import TypeVar

import trio
from psycopg import OperationalError
from psycopg.abc import PQGen, PQGenConn
from psycopg.waiting import Ready, Wait

RV = TypeVar("RV")

_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


def ready_now(fd: int, want: int) -> int:
    """Say what the socket is ready for, without waiting; an error or an end counts as ready for all."""
    poll = select.poll()
    poll.register(fd, _EVENTS[Wait(want)])
    ready = 0
    for _, events in poll.poll(0):
        if events & select.POLLIN:
            ready |= Ready.R
        if events & select.POLLOUT:
            ready |= Ready.W
        if events & ~(select.POLLIN | select.POLLOUT):
            ready |= want  # libpq finds out itself what is wrong
    return ready


async def wait_ready(fd: int, want: int) -> int:
    """Wait until the socket is ready for one of the things wanted; always a checkpoint.

    Raises:
        OperationalError: the socket was closed, here or by another task.
    """
    try:
        if want == Wait.R:
            await trio.lowlevel.wait_readable(fd)
            return Ready.R
        if want == Wait.W:
            await trio.lowlevel.wait_writable(fd)
            return Ready.W
        return await _wait_either(fd)
    except (OSError, trio.ClosedResourceError) as error:
        raise OperationalError("the connection was closed while it was in use") from error


async def _wait_either(fd: int) -> int:
    # Only when the kernel's buffer is full and nothing has come in. An epoll or kqueue of our own is readable
    # as soon as one of both directions is ready: no nursery, so a cancellation stays a plain Cancelled.
    if sys.platform == "linux":
        with select.epoll() as events:
            events.register(fd, select.EPOLLIN | select.EPOLLOUT)
            await _wait_readable_once(events.fileno())
    else:
        queue = select.kqueue()
        try:
            filters = (select.KQ_FILTER_READ, select.KQ_FILTER_WRITE)
            queue.control([select.kevent(fd, each, select.KQ_EV_ADD) for each in filters], 0)
            await _wait_readable_once(queue.fileno())
        finally:
            queue.close()
    return ready_now(fd, Wait.RW)


async def _wait_readable_once(fd: int) -> None:
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        trio.lowlevel.notify_closing(fd)


async def drive_connecting(gen: PQGenConn[RV]) -> RV:
    """Drive a generator that names its socket at each step (connecting, sending a cancel request).

    Cancellation leaves the generator suspended; whoever drops it closes the socket.
    """
    try:
        fd, want = next(gen)
        while True:
            fd, want = gen.send(Ready(await wait_ready(fd, want)))
    except StopIteration as stop:
        return stop.value


async def drive(gen: PQGen[RV], fd: int, *, poll_first: bool = False) -> RV:
    """Drive a generator over one socket, from its start or from where it was interrupted.

    Waiting to write is tried without waiting first, since a socket can nearly always be written to; so this is
    not always a checkpoint. Cancellation leaves the generator suspended.
    """
    try:
        want = next(gen)
        while True:
            ready = ready_now(fd, want) if poll_first or want & Wait.W else 0
            if not ready:
                ready = await wait_ready(fd, want)
            want = gen.send(Ready(ready))
    except StopIteration as stop:
        return stop.value
