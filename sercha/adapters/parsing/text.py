"""Plain text, source code and Markdown as clean text, in this process."""

from __future__ import annotations

import trio

from sercha.adapters.parsing.charset import decode, is_binary
from sercha.adapters.parsing.cleaning import clean_text
from sercha.adapters.parsing.language import LANGUAGE, find_language
from sercha.adapters.parsing.mime import MARKDOWN, text_type
from sercha.domain.document import TRUNCATED, ExtractedText
from sercha.domain.markdown import find_title
from sercha.domain.noise import NOISE, find_noise
from sercha.errors import ItemFailed
from sercha.services.ports import Item

TEXT_CHARS_MAX = 4_000_000
THREADS = 2

_INLINE_BYTES_MAX = 16 * 1024


class PlainTextExtractor:
    """The `TextExtractor` for texts. Anything over a few kilobytes is done in threads of its own limiter."""

    def __init__(
        self,
        *,
        text_chars_max: int = TEXT_CHARS_MAX,
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        self._text_chars_max = text_chars_max
        self._limiter = limiter or trio.CapacityLimiter(THREADS)

    async def extract(self, item: Item, content: bytes) -> ExtractedText:
        """Decode and clean *content*; never fails on a charset. Cancelling abandons the thread.

        Raises:
            ItemFailed: ``binary`` (a skip): it is no text.
        """
        if len(content) <= _INLINE_BYTES_MAX and content.isascii():
            await trio.lowlevel.checkpoint()
            return extract_text(item.path, content, self._text_chars_max)
        return await trio.to_thread.run_sync(
            extract_text,
            item.path,
            content,
            self._text_chars_max,
            limiter=self._limiter,
            abandon_on_cancel=True,
        )


def extract_text(path: str, content: bytes, text_chars_max: int = TEXT_CHARS_MAX) -> ExtractedText:
    """Make clean text of a file's bytes. A longer text is cut; the metadata's ``truncated`` says so.

    Raises:
        ItemFailed: ``binary`` (a skip): it is no text.
    """
    if is_binary(content):
        raise ItemFailed("It is not a text.", code="binary", is_skip=True)
    decoded, charset = decode(content)
    metadata: dict[str, str] = {}
    if len(decoded) > text_chars_max:
        metadata[TRUNCATED] = f"{text_chars_max} of {len(decoded)} characters"
        decoded = decoded[:text_chars_max]
    text = clean_text(decoded)
    mime_type = text_type(path, content[:200])
    title = find_title(text) if mime_type == MARKDOWN else None
    noise = find_noise(text, mime_type)
    if noise is not None:
        metadata[NOISE] = noise
    if language := find_language(text, mime_type):
        metadata[LANGUAGE] = language
    return ExtractedText(text, mime_type, title, charset, metadata)
