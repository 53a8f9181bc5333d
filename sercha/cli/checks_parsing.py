"""What `sercha doctor` finds about the processes that read documents."""

from __future__ import annotations

import trio

from sercha.adapters.parsing.kinds import Kind
from sercha.adapters.parsing.pool import ParserPool, open_parsers
from sercha.cli.checks import Finding, Verdict
from sercha.errors import SerchaError
from sercha.settings import Settings

SECONDS = 30.0

_PAGE = b"<!doctype html><p>Sercha reads this.</p>"
_MEND = "see `docs/explanation/documents.md`; the other measures hold"


async def check_parsers(settings: Settings) -> list[Finding]:
    """Let a parser process read a page, and say what it is confined by."""
    if not settings.role.runs_worker:
        return []
    try:
        with trio.fail_after(SECONDS):
            async with open_parsers(1) as parsers:
                return await _check(parsers)
    except trio.TooSlowError:
        return [_failure(f"no answer within {SECONDS:g} s")]
    except SerchaError as error:
        return [_failure(error.message)]


async def _check(parsers: ParserPool) -> list[Finding]:
    read = await parsers.parse(Kind.HTML, "/page.html", _PAGE, chars_max=1_000)
    if "Sercha reads this." not in read.text:
        return [_failure("a page was read without its text")]
    measures = parsers.measures or {}
    held = [name for name, reason in measures.items() if not reason]
    found = [Finding("parsers", Verdict.OK, f"confined by: time, {', '.join(held)}")]
    return found + [
        Finding("parsers", Verdict.WARN, f"not in force: {name} ({reason})", _MEND)
        for name, reason in measures.items()
        if reason
    ]


def _failure(message: str) -> Finding:
    mend = "documents other than text cannot be read: install Sercha's packages anew"
    return Finding("parsers", Verdict.FAIL, message, mend)
