"""The dispatch in Redis: one stream of task ids, one group of workers.

::

    sercha:tasks      stream, an entry is one field with a task's id
    sercha:workers    its group; a consumer is one start of one process

An entry that was read belongs to its consumer until it is confirmed. The answer to a read can be lost, or the
reader cancelled, after the server has handed entries out; so whatever went wrong, the next read first asks for
what the consumer holds. The server may even hand out a little later, to a blocked read whose end it has not
noticed yet: therefore that is asked again until such a read must have ended by itself.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast
from uuid import UUID

import structlog
import trio

from lockd import StoreUnreachable
from lockd.redis import RedisClient, Script, open_redis_client
from sercha.adapters.redis.scripts import ANNOUNCE, CONFIRM, MAKE_GROUP, OFFER, SWEEP
from sercha.errors import SettingsError, Unavailable
from sercha.services.ports import Delivery

T = TypeVar("T")

STREAM = "sercha:tasks"
GROUP = "sercha:workers"
FIELD = "task"

ENTRIES_MAX = 10_000
"""The stream never grows beyond this, whatever is asked for, so that scripts end soon."""
BLOCK_SECONDS_MAX = 3.0
"""How long one read waits in the server: well below the client's limit for a request. Longer waits are several."""
LINGER_SECONDS = BLOCK_SECONDS_MAX + 2.0
"""After this long a read that was given up has ended in the server as well."""
FORGET_SECONDS = 600.0
"""A consumer that has asked for nothing for so long is removed; its entries are taken over far sooner."""
CONNECTIONS_MAX = 4
"""Beside the one that reads."""

_NO_GROUP = ("NOGROUP", "UNBLOCKED")
"""Refusals that say that stream or group are gone."""

_log = structlog.get_logger()

Entry = tuple[str, UUID | None]
"""None: its value is no task's id."""


class RedisDispatch:
    """Satisfies the port ``Dispatch``; made by `open_redis_dispatch`. One task at a time may receive.

    Each method is one step in Redis or, waiting, several. A stream or group that is missing is made again on
    the way. Whatever else is wrong is `Unavailable` with the code ``redis-away``, also what an operator has to
    mend: the message has the server's words and no password. Cancelled, a call may have taken place.
    """

    def __init__(self, client: RedisClient, consumer: str, forget_after: float) -> None:
        self._client = client
        self._reading = client.open_lane(1)
        self._consumer = consumer
        self._forget_after = forget_after
        self._held: set[str] = set()
        """Entries that the caller was given and has not confirmed."""
        self._is_unsure = True
        """Whether the server may have handed out entries that the caller was not given."""
        self._unsure_until = -math.inf

    def __repr__(self) -> str:
        return f"<RedisDispatch {self._client.address} {self._consumer}>"

    async def open(self) -> None:
        """Make the group if it is missing; what this consumer holds comes with the next `receive`."""
        self._doubt()
        self._held.clear()
        await self._healed(self._make_group)

    async def receive(self, limit: int, *, wait: float) -> list[Delivery]:
        """Take up to *limit* entries, waiting up to *wait* seconds for the first; the oldest first.

        Entries whose value is no task's id are removed and logged.
        """
        deadline = trio.current_time() + wait
        is_done = False
        try:
            while True:
                entries = await self._unseen(limit) if self._is_unsure else []
                if not entries:
                    seconds = deadline - trio.current_time()
                    entries = await self._read(">", limit, min(seconds, BLOCK_SECONDS_MAX))
                deliveries = await self._usable(entries)
                if deliveries or trio.current_time() >= deadline:
                    is_done = True
                    return deliveries
        finally:
            if not is_done:
                self._doubt()

    async def confirm(self, deliveries: Sequence[Delivery]) -> int:
        """Remove entries for good, whoever holds them by now. Returns how many there still are."""
        count = await self._run(CONFIRM, GROUP, " ".join([each.entry for each in deliveries]))
        self._held.difference_update(each.entry for each in deliveries)
        return count

    async def offer(self, task_ids: Sequence[UUID]) -> int:
        """Add those ids that have no entry yet, in their order. Returns how many entries there are now.

        Adds nothing to a stream that has `ENTRIES_MAX` entries.
        """
        return await self._run(OFFER, FIELD, ENTRIES_MAX, " ".join(map(str, task_ids)))

    async def announce(self, task_ids: Sequence[UUID], *, at_most: int) -> int:
        """Add entries while there are fewer than *at_most*. Returns how many entries there are now."""
        ids = " ".join(map(str, task_ids))
        return await self._run(ANNOUNCE, FIELD, min(at_most, ENTRIES_MAX), ids)

    async def sweep(self, *, idle: float) -> list[Delivery]:
        """Take over entries held for *idle* seconds and more, about 1,000 at most; remove what is left over.

        Left over are consumers that have neither entries nor asked for any for long, and entries that were
        handed out but are held by nobody. This consumer's own entries count like those of others.
        """
        arguments = (GROUP, self._consumer, _ms(idle), _ms(max(idle, self._forget_after)))
        is_done = False
        try:
            reply = await self._healed(
                lambda: self._client.requests.evaluate(SWEEP, STREAM, *arguments, ENTRIES_MAX)
            )
            deliveries = await self._usable(_entries(reply))
            is_done = True
            return deliveries
        finally:
            if not is_done:
                self._doubt()

    def _doubt(self) -> None:
        self._is_unsure = True
        self._unsure_until = trio.current_time() + LINGER_SECONDS

    async def _unseen(self, limit: int) -> list[Entry]:
        """Read what this consumer holds without the caller's knowledge."""
        asked_at = trio.current_time()
        count = min(limit + len(self._held), ENTRIES_MAX)
        entries = await self._read("0", count, 0)
        unseen = [entry for entry in entries if entry[0] not in self._held]
        if len(entries) < count and len(unseen) <= limit:  # these are all
            self._held.intersection_update([entry for entry, _ in entries])
            self._is_unsure = asked_at < self._unsure_until
        return unseen[:limit]

    async def _read(self, start: str, limit: int, seconds: float) -> list[Entry]:
        ms = int(seconds * 1000)
        block = ("BLOCK", ms) if ms > 0 else ()  # 0 would be for ever
        command = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", limit, *block)
        [reply] = await self._healed(
            lambda: self._reading.request((*command, "STREAMS", STREAM, start))
        )
        match reply:
            case None:
                return []
            case [[_, entries]]:
                return _entries(entries)
            case _:
                raise _senseless(reply)

    async def _usable(self, entries: list[Entry]) -> list[Delivery]:
        """Return the entries with a task's id, and remove the others."""
        if useless := [entry for entry, task_id in entries if task_id is None]:
            _log.warning("dispatch.entries_unreadable", count=len(useless), stream=STREAM)
            await self._run(CONFIRM, GROUP, " ".join(useless))
        deliveries = [Delivery(entry, task_id) for entry, task_id in entries if task_id is not None]
        self._held.update([delivery.entry for delivery in deliveries])
        return deliveries

    async def _run(self, script: Script, *arguments: str | int) -> int:
        return await self._healed(lambda: self._client.requests.run(script, STREAM, *arguments))

    async def _make_group(self) -> None:
        await self._client.requests.run(MAKE_GROUP, STREAM, GROUP)

    async def _healed(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take *step*; when the group is missing make it and take the step once more, which never was taken."""
        try:
            try:
                return await step()
            except StoreUnreachable as error:
                if error.refusal not in _NO_GROUP:
                    raise
            await self._make_group()
            _log.warning("dispatch.group_recreated", group=GROUP, stream=STREAM)
            return await step()
        except StoreUnreachable as error:
            raise _unavailable(str(error)) from None


@asynccontextmanager
async def open_redis_dispatch(
    url: str,
    consumer: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    forget_after: float = FORGET_SECONDS,
) -> AsyncGenerator[RedisDispatch]:
    """Use the dispatch in the Redis at *url* for the block, as *consumer*: a name that no other start has.

    Redis need not be there: that shows as `Unavailable` in each call. Up to five connections are made when
    they are needed, and closed with the block. A consumer is removed by the others' `sweep` when it has asked
    for nothing for *forget_after* seconds. Errors of the block leave it as themselves, in no group.

    Raises:
        SettingsError: *url* cannot be used, or a file that it names.
    """
    opening = open_redis_client(url, connections_max=CONNECTIONS_MAX, ssl_context=ssl_context)
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(opening)
        except ValueError as error:
            raise SettingsError(f"REDIS_URL: {error}") from None
        yield RedisDispatch(client, consumer, forget_after)


def _entries(reply: object) -> list[Entry]:
    """Read a list of entries: an id with fields, or without when the entry has been deleted."""
    if not isinstance(reply, list):
        raise _senseless(reply)
    return [_entry(each) for each in cast("list[Any]", reply)]


def _entry(reply: Any) -> Entry:
    match reply:
        case [bytes(entry), [_, bytes(value)]]:
            return entry.decode(), _task_id(value)
        case [bytes(entry), _]:
            return entry.decode(), None
        case _:
            raise _senseless(reply)


def _task_id(value: bytes) -> UUID | None:
    try:
        return UUID(value.decode())
    except ValueError:
        return None


def _senseless(reply: object) -> Unavailable:
    return _unavailable(f"a reply that makes no sense: {reply!r:.100}")


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(f"Redis gives no usable answer: {reason}", code="redis-away")


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
