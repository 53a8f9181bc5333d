"""Requests that may be repeated: the effect takes place once, and every repeat gets the first answer.

The answer is written in the transaction of the effect, under a lock that ends with it: so there are both or
neither, whichever process dies and whenever. While the first attempt runs, its repeats wait: in the same process
one after the other, and only the first of them asks PostgreSQL now and then for attempts of other processes.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import structlog
import trio

from sercha.errors import Conflict, Rejected, SerchaError, Transient
from sercha.services.backoff import Backoff
from sercha.services.ports import Database
from sercha.services.ports.idempotency import AnswerStore, RequestIdentity, Seal, SealedAnswer
from sercha.telemetry import metrics

KEPT = 24 * 3600.0
"""Seconds that an answer is kept."""
WAIT_MAX = 10.0
"""Seconds that a repeat waits for the first attempt."""
IDLE_MAX = 8.0
"""Seconds that an attempt may stand still between two statements: one that was cut off lets go before its repeats,
which wait `WAIT_MAX`, give up."""
PAUSE, PAUSE_MAX = 0.02, 0.5
RETRY_AFTER = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered."""

    status: int
    content: bytes
    is_replayed: bool = False


@dataclass(frozen=True, slots=True)
class RepeatableRequest:
    """A request that may come again."""

    identity: RequestIdentity
    content: bytes
    """What it says; a repeat must say the same."""
    kept: float = KEPT


class Idempotency:
    """Lets each request have its effect once."""

    def __init__(
        self,
        database: Database,
        answers: AnswerStore,
        seal: Seal,
        *,
        wait_max: float = WAIT_MAX,
        at_once: int = 5,
        random: Random | None = None,
    ) -> None:
        """*at_once* bounds the attempts under way in this process: each keeps a connection while it works."""
        self._database = database
        self._answers = answers
        self._seal = seal
        self._wait_max = wait_max
        self._places = trio.Semaphore(at_once, max_value=at_once)
        self._random = random
        self._turns: dict[RequestIdentity, trio.Lock] = {}

    def key_of(self, content: bytes) -> str:
        """Return a key for a request whose content alone makes it the same."""
        return f"content:{self._seal.digest(content).hex()}"

    async def once(
        self,
        request: RepeatableRequest,
        act: Callable[[], Awaitable[Answer]],
        *,
        refusal: Callable[[SerchaError], Answer | None],
    ) -> Answer:
        """Run *act*, or return what it answered the first time.

        Everything that *act* does with the database is committed together with its answer. An error for which
        *refusal* gives an answer undoes what *act* did, and is kept as well; after any other one the next repeat
        runs *act* anew. Cancelled before the commit nothing has happened.

        Raises:
            Rejected: the key came with other content before (``idempotency-key-reused``).
            Conflict: the answer was sealed with another master key (``idempotency-answer-unreadable``).
            Transient: the first attempt still runs (``idempotency-in-progress``), or too many others do
                (``pool-exhausted``).
            SerchaError: what *act* raised.
        """
        deadline = trio.current_time() + self._wait_max
        pauses = Backoff(base=PAUSE, cap=PAUSE_MAX, random=self._random)
        async with self._turn(request.identity, deadline):
            while True:
                async with self._place():
                    answer = await self._attempt(request, act, refusal)
                if answer is not None:
                    return answer
                left = deadline - trio.current_time()
                if left <= 0:
                    raise _in_progress()
                if not pauses.failures:
                    _count("waited")
                await trio.sleep(min(pauses.next(), left))

    async def _attempt(
        self,
        request: RepeatableRequest,
        act: Callable[[], Awaitable[Answer]],
        refusal: Callable[[SerchaError], Answer | None],
    ) -> Answer | None:
        """Answer in one transaction; None: somebody else does at this moment."""
        identity = request.identity
        async with self._database.joined() as tx:
            if not await self._answers.take(tx, identity, idle_max=IDLE_MAX):
                return None
            # After the lock, in a statement of its own: it sees what its last holder committed.
            found = await self._answers.find(tx, identity)
            if found is not None:
                return self._replay(request, found)
            try:
                async with self._database.transaction():
                    answer = await act()
            except SerchaError as error:
                refused = refusal(error)
                if refused is None:
                    raise
                answer = refused
            if not await self._answers.keep(
                tx, identity, self._sealed(request, answer), kept=request.kept
            ):
                raise _in_progress()
        _count("first")
        return answer

    def _sealed(self, request: RepeatableRequest, answer: Answer) -> SealedAnswer:
        content = self._seal.close(answer.content, _context(request.identity, answer.status))
        return SealedAnswer(self._seal.digest(request.content), answer.status, content)

    def _replay(self, request: RepeatableRequest, found: SealedAnswer) -> Answer:
        # First of all, since with another master key no hash fits either.
        content = self._seal.open(found.content, _context(request.identity, found.status))
        if content is None:
            _count("unreadable")
            raise Conflict(
                "this request was answered before, but with another MASTER_KEY: look whether it took place",
                code="idempotency-answer-unreadable",
            )
        if not hmac.compare_digest(found.request_hash, self._seal.digest(request.content)):
            _count("reused")
            raise Rejected(
                "the idempotency key was used for another request: take a new one for each",
                code="idempotency-key-reused",
            )
        _count("replayed")
        _log.info("request.replayed", method=request.identity.method, status=found.status)
        return Answer(found.status, content, is_replayed=True)

    @asynccontextmanager
    async def _turn(self, identity: RequestIdentity, deadline: float) -> AsyncGenerator[None]:
        """Let one task of this process at a time ask for *identity*, in the order of coming."""
        turn = self._turns.setdefault(identity, trio.Lock())
        try:
            if turn.locked():
                _count("waited")
            with trio.move_on_at(deadline) as limit:
                await turn.acquire()
            if limit.cancelled_caught:
                raise _in_progress()
            try:
                yield
            finally:
                turn.release()
        finally:
            if not turn.locked() and self._turns.get(identity) is turn:
                del self._turns[identity]

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        with trio.move_on_after(self._wait_max) as limit:
            await self._places.acquire()
        if limit.cancelled_caught:
            raise Transient(
                "all database connections for requests with a key are in use",
                code="pool-exhausted",
                retry_after=RETRY_AFTER,
            )
        try:
            yield
        finally:
            self._places.release()


def _context(identity: RequestIdentity, status: int) -> bytes:
    return identity.digest() + status.to_bytes(2, "big")


def _in_progress() -> Transient:
    _count("in_progress")
    return Transient(
        "the first attempt of this request still runs: ask again with the same key",
        code="idempotency-in-progress",
        retry_after=RETRY_AFTER,
    )


def _count(outcome: str) -> None:
    metrics.IDEMPOTENT_REQUESTS.labels(outcome).inc()
