"""Vectors from any endpoint that speaks as OpenAI's does: OpenAI, Ollama, vLLM, Text Embeddings Inference.

A batch that is refused is halved until the text is found that is to blame, after a plain word has shown that the
endpoint takes anything at all: an endpoint that refuses everything is no reason to give up texts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from itertools import count
from time import time
from typing import NoReturn

import httpx
import structlog
import trio

from sercha.adapters.embeddings.answers import WrongAnswer, error_message, read_vectors
from sercha.adapters.embeddings.budget import RequestBudget, read_retry_after
from sercha.domain.embedding import Refused, Vector
from sercha.errors import Rejected, Unavailable
from sercha.services.backoff import Backoff

BATCH_TEXTS = 64
BATCH_CHARS = 100_000
ANSWER_BYTES_MAX = 64 * 1024 * 1024
CALL_SECONDS = 60.0
REQUEST_SECONDS = 30.0
"""For one request, where the call has more time left."""
FAILURES_MAX = 3
"""Errors of the endpoint's own (500) after which the texts are suspected."""
PLAIN = "word"

_REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

_log = structlog.get_logger()


class _BatchRefused(Exception):
    """The endpoint does not take these texts, or not all of them."""


@asynccontextmanager
async def open_embedder(
    base_url: str,
    model: str,
    *,
    api_key: str | None = None,
    dimensions: int | None = None,
    requests_per_minute: int | None = None,
    call_seconds: float = CALL_SECONDS,
) -> AsyncGenerator[OpenAIEmbedder]:
    """Open a client of the endpoint at *base_url*; nothing is sent before it is asked for something.

    Args:
        base_url: up to and without ``/embeddings``.
        model: as the endpoint names it.
        api_key: sent to this address alone; redirections are not followed.
        dimensions: what each vector must have; None: whatever comes.
        requests_per_minute: None: as many as there is need of.
        call_seconds: for one call of `OpenAIEmbedder.embed`, all requests together.
    """
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=None) as client:  # noqa: S113  each call has a deadline
        yield OpenAIEmbedder(
            client,
            base_url,
            model,
            RequestBudget(requests_per_minute),
            dimensions=dimensions,
            call_seconds=call_seconds,
        )


class _Content(httpx.AsyncByteStream):
    """What a request sends, once. httpx's own is a generator, which is left unfinished when sending is cancelled."""

    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class OpenAIEmbedder:
    """Satisfies `sercha.services.ports.embedder.Embedder`."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str,
        model: str,
        budget: RequestBudget,
        *,
        dimensions: int | None = None,
        call_seconds: float = CALL_SECONDS,
        now: Callable[[], float] = time,
    ) -> None:
        self._client = client
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._budget = budget
        self._dimensions = dimensions
        self._call_seconds = call_seconds
        self._now = now
        self._batch_texts = BATCH_TEXTS

    async def embed(self, texts: Sequence[str]) -> list[Vector | Refused]:
        """Return a vector for each of *texts*, or `Refused`; one batch after the other.

        Raises:
            Unavailable: there was no answer within the time of one call (``embedder-away``).
            Rejected: the endpoint refuses everything (``embedder-refused``).
        """
        deadline = trio.current_time() + self._call_seconds
        found: list[Vector | Refused] = [Refused("there is no text")] * len(texts)
        wanted = [at for at, text in enumerate(texts) if text.strip()]
        while wanted:
            batch = self._next_batch(texts, wanted)
            del wanted[: len(batch)]
            vectors = await self._embed_batch([texts[at] for at in batch], deadline)
            for at, vector in zip(batch, vectors, strict=True):
                found[at] = vector
        return found

    def _next_batch(self, texts: Sequence[str], wanted: Sequence[int]) -> list[int]:
        batch: list[int] = []
        chars = 0
        for at in wanted[: self._batch_texts]:
            chars += len(texts[at])
            if batch and chars > BATCH_CHARS:
                break
            batch.append(at)
        return batch

    async def _embed_batch(self, texts: list[str], deadline: float) -> list[Vector | Refused]:
        try:
            return await self._ask(texts, deadline)
        except _BatchRefused as refusal:
            await self._try_plain(deadline, refusal)
            return await self._halve(texts, deadline, refusal)

    async def _halve(
        self, texts: list[str], deadline: float, refusal: _BatchRefused
    ) -> list[Vector | Refused]:
        """Find out which of *texts* are refused."""
        if len(texts) == 1:
            _log.info("embedding.text_refused", error=str(refusal), chars=len(texts[0]))
            return [Refused(str(refusal))]
        middle = len(texts) // 2
        found: list[Vector | Refused] = []
        is_size = True
        for half in (texts[:middle], texts[middle:]):
            try:
                found += await self._ask(half, deadline)
            except _BatchRefused as again:
                is_size = False
                found += await self._halve(half, deadline, again)
        if is_size:
            # Nothing was wrong with the texts: there were too many of them.
            self._batch_texts = min(self._batch_texts, len(texts) - middle)
        return found

    async def _try_plain(self, deadline: float, refusal: _BatchRefused) -> None:
        try:
            await self._ask([PLAIN], deadline)
        except _BatchRefused:
            self._refuse(str(refusal))

    async def _ask(self, texts: list[str], deadline: float) -> list[Vector | Refused]:
        """Return the vectors of one batch; passing errors are tried again until *deadline*."""
        delays = Backoff(base=0.25, cap=10.0)
        why = "no time"
        pause = 0.0
        for failures in count(1):
            pause = max(pause, self._budget.wait)
            if trio.current_time() + pause >= deadline:
                break
            await trio.sleep(pause)
            self._budget.take()
            status, content, retry_after = await self._send(texts, deadline)
            if status == HTTPStatus.OK:
                return await self._read(content, len(texts))
            why = error_message(status, content)
            if status in _REFUSALS or (
                status == HTTPStatus.INTERNAL_SERVER_ERROR and failures >= FAILURES_MAX
            ):
                raise _BatchRefused(why)
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
                self._refuse(why)
            pause = delays.next() if retry_after is None else retry_after
            if retry_after is not None:
                self._budget.pause(retry_after)
        raise Unavailable(
            f"the embedding endpoint does not answer: {why}",
            code="embedder-away",
            retry_after=pause or None,
        )

    async def _send(self, texts: list[str], deadline: float) -> tuple[int, bytes, float | None]:
        """Send one request; no answer counts as 503."""
        left = min(REQUEST_SECONDS, deadline - trio.current_time())
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        try:
            with trio.fail_after(left):
                request = self._client.build_request("POST", self._url, json=body)
                request.stream = _Content(request.content)
                response = await self._client.send(request, stream=True)
                async with aclosing(response):
                    content = bytearray()
                    async for part in response.aiter_bytes():
                        content += part
                        if len(content) > ANSWER_BYTES_MAX:
                            return HTTPStatus.BAD_GATEWAY, b"its answer is too long", None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__} {error}".encode(), None
        except trio.TooSlowError:
            message = f"no answer within {left:.1f} s"
            return HTTPStatus.SERVICE_UNAVAILABLE, message.encode(), None
        retry_after = read_retry_after(response.headers.get("Retry-After"), self._now)
        return response.status_code, bytes(content), retry_after

    async def _read(self, content: bytes, number: int) -> list[Vector | Refused]:
        try:
            return await trio.to_thread.run_sync(read_vectors, content, number, self._dimensions)
        except WrongAnswer as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> NoReturn:
        raise Rejected(
            f"the embedding endpoint refuses the model {self._model}: {why}",
            code="embedder-refused",
        )
