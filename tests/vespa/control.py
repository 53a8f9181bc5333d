"""Switches for other processes, below ``/stand-in/``; a real server has nothing like it.

GET, POST and DELETE of ``faults``; GET and DELETE of ``requests``; PATCH of ``limits``; POST of
``containers/<index>/stop`` and ``/start``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from typing import Any

from tests.vespa.faults import Fault, fault_from
from tests.vespa.messages import json_answer
from tests.vespa.model import Answer
from tests.vespa.state import State

CONTROL_PREFIX = "/stand-in/"
Switch = Callable[[int], Awaitable[None]]


class Control:
    """Answers requests below ``/stand-in/``."""

    def __init__(self, state: State, switches: Mapping[str, Switch]) -> None:
        self._state = state
        self._switches = switches

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one request."""
        try:
            content = json.loads(body) if body else None
            return await self._route(method, path, content)
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            return json_answer(400, {"message": str(error)})

    async def _route(self, method: str, path: str, content: Any) -> Answer:
        match method, path.removeprefix(CONTROL_PREFIX).split("/"):
            case "POST", ["faults"]:
                self._state.faults.add(fault_from(content))
                return json_answer(201, {})
            case "GET", ["faults"]:
                return json_answer(200, [_shown(each) for each in self._state.faults])
            case "DELETE", ["faults"]:
                self._state.faults.clear()
                return json_answer(200, {})
            case "GET", ["requests"]:
                return json_answer(200, [each.as_json() for each in self._state.requests])
            case "DELETE", ["requests"]:
                self._state.requests.clear()
                return json_answer(200, {})
            case "PATCH", ["limits"]:
                for name, value in content.items():
                    if not hasattr(self._state.limits, name):
                        raise ValueError(f"no limit is called '{name}'")
                    setattr(self._state.limits, name, value)
                return json_answer(200, {})
            case "POST", ["containers", index, "stop" | "start" as switch]:
                await self._switches[switch](int(index))
                return json_answer(200, {})
            case _:
                return json_answer(404, {"message": f"Nothing at {method} {path}"})


def _shown(fault: Fault) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for each in fields(fault):
        if not each.name.startswith("_"):
            value = getattr(fault, each.name)
            shown[each.name] = sorted(value) if isinstance(value, frozenset) else value
    return shown
