"""The `TextExtractor` of a worker: texts in this process, all other formats in confined ones."""

from __future__ import annotations

import trio

from sercha.adapters.parsing.kinds import find_kind, is_encrypted_package
from sercha.adapters.parsing.pool import ParserPool
from sercha.adapters.parsing.text import TEXT_CHARS_MAX, THREADS, PlainTextExtractor
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed
from sercha.services.ports import Item

_INLINE_BYTES_MAX = 64 * 1024


class DocumentExtractor:
    """Gives each file to what can read it."""

    def __init__(self, parsers: ParserPool, *, text_chars_max: int = TEXT_CHARS_MAX) -> None:
        self._parsers = parsers
        self._limiter = trio.CapacityLimiter(THREADS)
        self._text = PlainTextExtractor(text_chars_max=text_chars_max, limiter=self._limiter)
        self._text_chars_max = text_chars_max

    async def extract(self, item: Item, content: bytes) -> ExtractedText:
        """Make text of a file. Cancelled, nothing goes on with it.

        Raises:
            ItemFailed: ``binary``, ``encrypted`` or ``too-large`` (skips), ``broken``, ``too-deep``,
                ``parser-timeout``, ``parser-crashed`` or ``parser-memory``.
            Unavailable: no parser process can be started.
        """
        if len(content) <= _INLINE_BYTES_MAX:
            kind = find_kind(item.path, content)
        else:
            kind = await trio.to_thread.run_sync(
                find_kind, item.path, content, limiter=self._limiter, abandon_on_cancel=True
            )
        if kind is not None:
            return await self._parsers.parse(
                kind, item.path, content, chars_max=self._text_chars_max
            )
        if is_encrypted_package(content):
            raise ItemFailed("It is protected by a password.", code="encrypted", is_skip=True)
        return await self._text.extract(item, content)
