"""`sercha events`: prints what happens, as it happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, cast

import trio
import typer

from sercha.cli.api import Api, open_api
from sercha.cli.exits import run_async
from sercha.cli.show import safe
from sercha.errors import Transient
from sercha.services.backoff import Backoff

SILENCE = 60.0
"""Seconds without a sign of life after which the connection is taken for dead."""
AWAY_TIMEOUT = 60.0
"""How long a server may be away: it may be restarting."""
SEEN_MAX = 10_000
"""Events remembered, so that one which comes again is not printed again."""


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("events")(events)


def events(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            help="Begin after this position instead of now; JSON has one in `position`.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print what happens to sources, syncs and schedules until interrupted."""
    run_async(partial(_until_interrupted, partial(_follow, after, as_json=as_json)))


async def _until_interrupted(follow: Callable[[], Awaitable[None]]) -> None:
    """Follow until Ctrl-C, which is waited for: raised anywhere, it can meet code that loses it.

    Raises:
        KeyboardInterrupt: in a group.
    """
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            nursery.start_soon(follow)
            async for _ in signals:
                raise KeyboardInterrupt


async def _follow(after: str | None, *, as_json: bool) -> None:
    """Follow for ever, over restarts of the server; what comes twice is printed once."""
    reader = _Reader(after, as_json=as_json)
    backoff = Backoff(base=0.5, cap=5.0)
    away_since: float | None = None
    async with open_api() as api:
        while True:
            reader.has_heard = False
            try:
                await _read(api, reader)
            except Transient:
                now = trio.current_time()
                away_since = now if away_since is None or reader.has_heard else away_since
                if now - away_since > AWAY_TIMEOUT:
                    raise
            if reader.has_heard:
                backoff.reset()
            await trio.sleep(reader.retry if reader.has_heard else backoff.next())


async def _read(api: Api, reader: _Reader) -> None:
    headers = {"Last-Event-ID": reader.position} if reader.position else {}
    # Never left early: the lines come from generators that end with the connection.
    await api.read_lines("/events", reader.take, headers=headers, silence=SILENCE)


class _Reader:
    """Puts lines together to events and prints them."""

    def __init__(self, position: str | None, *, as_json: bool) -> None:
        self.position = position
        self.retry = 1.0
        self.has_heard = False
        self._as_json = as_json
        self._fields: dict[str, str] = {}
        self._seen: dict[str, None] = {}

    def take(self, line: str) -> None:
        """Take one line of the stream."""
        self.has_heard = True
        if line:
            name, _, value = line.partition(":")
            if name:
                self._fields[name] = value.removeprefix(" ")
            return
        fields, self._fields = self._fields, {}
        self.position = fields.get("id") or self.position
        if fields.get("retry", "").isdecimal():
            self.retry = int(fields["retry"]) / 1000
        kind = fields.get("event")
        if kind == "reset":
            self._print({"type": "reset"}, "reset: some events are lost")
        elif kind not in {None, "reconnect", "end"}:
            self._print_event(json.loads(fields.get("data", "{}")))

    def _print_event(self, event: Mapping[str, object]) -> None:
        number = str(event.get("event_id"))
        if number in self._seen:
            return
        self._seen[number] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        data = cast("dict[str, object]", event.get("data") or {})
        shown = " ".join(f"{name}={value}" for name, value in data.items())
        parts = (event.get("at"), event.get("type"), event.get("subject_id", ""), shown)
        self._print(event, "\t".join(safe(part) for part in parts))

    def _print(self, event: Mapping[str, object], line: str) -> None:
        if self._as_json:
            line = json.dumps({**event, "position": self.position}, ensure_ascii=False)
        print(line, flush=True)
