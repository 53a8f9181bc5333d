"""One worker's process, as a test sees it: by what it notes, by its log, by its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.support.queue_history import Event

LOOK_SECONDS = 0.02


@dataclass(eq=False)
class Node:
    """One life of one worker, seen from outside."""

    life: int
    process: trio.Process
    folder: Path
    options: tuple[str, ...]
    variables: Mapping[str, str]
    is_stopped: bool = False
    is_asked_to_end: bool = False
    events: list[Event] = field(default_factory=list[Event])
    _read: int = 0

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    @property
    def log(self) -> str:
        return (self.folder / f"node-{self.life}.log").read_text(errors="replace")

    def look(self) -> list[Event]:
        """Read what the node has noted, and return all of it."""
        file = self.folder / f"node-{self.life}.jsonl"
        if file.exists():
            with file.open("rb") as content:
                content.seek(self._read)
                lines = content.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read += len(whole)
            self.events += [json.loads(line) for line in whole.splitlines()]
        return self.events

    async def wait_for(self, event: str, seconds: float = 30, **details: object) -> Event:
        """Return the first event of that name with those details; raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            while True:
                for found in self.look():
                    if found["event"] == event and details.items() <= found.items():
                        return found
                assert self.is_alive or event == "node.ended", self.log[-3000:]
                await trio.sleep(LOOK_SECONDS)
