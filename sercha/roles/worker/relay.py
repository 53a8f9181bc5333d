"""Between the ledger and the dispatch: due tasks are offered, decided entries are removed.

Every worker has a relay and there is no leader: an offer adds only what has no entry, so it may be repeated by
anybody at any time, and a dispatch that lost everything is filled again by the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from uuid import UUID

import structlog
import trio

from sercha.errors import SerchaError, Unavailable
from sercha.roles.worker.desk import Desk
from sercha.services.backoff import Backoff
from sercha.services.ports import Delivery, Dispatch, TaskQueue
from sercha.services.waiting import Signal, Waitable, until_any

INTERVAL = 0.5
"""Seconds between two offers, about; a task that became due waits so long at most."""
WINDOW_MIN, WINDOW_MAX = 16, 1_000
"""Entries that the dispatch holds. Few, where tasks are long: what is urgent goes behind those that are there."""
UNCONFIRMED_MAX = 5_000

_log = structlog.get_logger()


class Relay:
    """Offers due tasks while `run` runs."""

    def __init__(
        self,
        queue: TaskQueue,
        dispatch: Dispatch,
        desk: Desk,
        kinds: Collection[str],
        keyed_ended: Signal,
        *,
        random: Random | None = None,
    ) -> None:
        self._queue = queue
        self._dispatch = dispatch
        self._desk = desk
        self._kinds = kinds
        self._keyed_ended: Waitable = keyed_ended
        self._random = random or Random()
        self._low = Signal()
        self._may_have_more = False
        self.error: Unavailable | None = None
        """Why nothing can be offered: the dispatch is of no use then, although it may hand out what it has."""

    @property
    def window(self) -> int:
        """How many entries there should be: what this worker may take within its next breaths."""
        wanted = 2 * (self._desk.slots + self._desk.ahead)
        return max(WINDOW_MIN, min(WINDOW_MAX, wanted))

    def note_level(self, entries: int) -> None:
        """Offer more soon if *entries* are few and there were more tasks than entries. No checkpoint."""
        if self._may_have_more and entries < self.window / 2:
            self._low.set()

    async def run(self) -> None:
        """Offer until cancelled; errors are met with a bounded back-off."""
        backoff = Backoff(base=INTERVAL, cap=5.0, random=self._random)
        while True:
            try:
                await self._offer()
                backoff.reset()
                pause = INTERVAL * self._random.uniform(0.75, 1.25)
            except SerchaError as error:
                log = _log.warning if backoff.failures == 0 else _log.debug
                log("relay.failed", error=error.message)
                pause = backoff.next()
            if backoff.failures:
                await trio.sleep(pause)
            else:
                await until_any(pause, self._low, self._keyed_ended)

    async def _offer(self) -> None:
        window = self.window
        due = await self._queue.due(window, self._kinds)
        self._may_have_more = len(due) == window
        if due:
            await self._send(due)

    async def recover(self) -> None:
        """Offer once more after `error`, of which nothing else is known to have ended.

        Raises:
            Unavailable: it still cannot be done.
        """
        if self.error is not None:
            await self._send(await self._queue.due(1, self._kinds))

    async def _send(self, due: Sequence[UUID]) -> None:
        try:
            entries = await self._dispatch.offer(due)
        except Unavailable as error:
            self.error = error
            raise
        self.error = None
        self.note_level(entries)


class Confirmer:
    """Removes entries from the dispatch after the ledger has decided, many at once, while `run` runs."""

    def __init__(self, dispatch: Dispatch, relay: Relay) -> None:
        self._dispatch = dispatch
        self._relay = relay
        self._decided: list[Delivery] = []
        self._due = Signal()
        self.has_failed = False
        """Entries could not be removed; opening the dispatch brings them again."""

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Remove *deliveries* soon. No checkpoint."""
        self._decided.extend(deliveries)
        if len(self._decided) > UNCONFIRMED_MAX:
            self._give_up()
        self._due.set()

    async def run(self) -> None:
        """Remove entries until cancelled."""
        while True:
            await self._due.wait()
            await self.flush()

    async def flush(self) -> None:
        """Remove what there is; after an error they come again when the dispatch is opened."""
        while self._decided:
            batch, self._decided = self._decided, []
            try:
                self._relay.note_level(await self._dispatch.confirm(batch))
            except SerchaError as error:
                _log.debug("dispatch.confirm_failed", error=error.message)
                self._give_up()

    def _give_up(self) -> None:
        self._decided = []
        self.has_failed = True
