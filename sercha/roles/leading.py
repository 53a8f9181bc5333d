"""Work that one of all processes does at a time: the one that holds the work's lease."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from lockd import EventKind, Lease, LeaseEvent, LeaseStore, OnOverrun, lead

LEASE_TTL = 15.0
"""Seconds after which another process takes over from one that died."""


class Leading:
    """Does the work while it holds the lease, until drained."""

    def __init__(
        self,
        lease: str,
        leases: LeaseStore,
        work: Callable[[Lease], Awaitable[None]],
        *,
        on_overrun: OnOverrun = "log",
    ) -> None:
        """*work* runs until it is cancelled: when the lease is lost, or to drain."""
        self._lease = lease
        self._leases = leases
        self._work = work
        self._on_overrun: OnOverrun = on_overrun
        self.error: str | None = None
        """Why the lease cannot be taken; None: it can, or another process has it."""

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work until *drain* is set; then stop at once and free the lease.

        Started at once, whoever holds the lease. Cancelled, what is under way is given up: it is done again by whoever
        works next.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    lead,
                    self._leases,
                    self._lease,
                    self._work,
                    ttl=LEASE_TTL,
                    on_overrun=self._on_overrun,
                    observe=self._observe,
                )
            )
            task_status.started()
            await drain.wait()
            nursery.cancel_scope.cancel("draining")

    def _observe(self, event: LeaseEvent) -> None:
        if event.kind is EventKind.STORE_FAILED:
            self.error = f"the lease cannot be taken: {event.error}"
        elif event.kind in (EventKind.ACQUIRED, EventKind.WAITING):
            self.error = None
