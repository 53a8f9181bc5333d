"""Health from progress, not from pings: each component says how it is doing, within a time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

import trio

from sercha.errors import SerchaError

PROBE_TIMEOUT = 2.0
"""Seconds that one probe may take before it counts as unhealthy."""


class Phase(StrEnum):
    """Where a process stands between its start and its end."""

    STARTING = "starting"
    CATCHING_UP = "catching-up"
    READY = "ready"
    DRAINING = "draining"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One component; ``is_vital``: without it the process can answer nothing."""

    is_healthy: bool
    message: str = ""
    is_vital: bool = False


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All components; ``healthy``, ``degraded``, or ``unhealthy`` when a vital one is."""

    status: str
    components: dict[str, ComponentHealth]

    @property
    def is_available(self) -> bool:
        return self.status != "unhealthy"


Probe = Callable[[], Awaitable[ComponentHealth]]


@dataclass
class Health:
    """The probes of one process; components join and leave as they start and stop."""

    probes: dict[str, Probe] = field(default_factory=dict[str, Probe])
    is_caught_up: Callable[[], bool] = lambda: True
    draining: trio.Event = field(default_factory=trio.Event)

    async def check(self) -> HealthReport:
        """Run all probes at once, each within `PROBE_TIMEOUT` seconds; never raises for a sick component."""
        components: dict[str, ComponentHealth] = {}

        async def run(name: str, probe: Probe) -> None:
            components[name] = await _bounded(probe)

        async with trio.open_nursery() as nursery:
            for name, probe in self.probes.items():
                nursery.start_soon(run, name, probe)
        return HealthReport(_status(components), dict(sorted(components.items())))

    async def phase(self) -> Phase:
        """Say whether requests should come here (`/ready`)."""
        if self.draining.is_set():
            return Phase.DRAINING
        if not self.probes:
            return Phase.STARTING
        if not self.is_caught_up():
            return Phase.CATCHING_UP
        report = await self.check()
        return Phase.READY if report.is_available else Phase.UNAVAILABLE


async def _bounded(probe: Probe) -> ComponentHealth:
    try:
        with trio.fail_after(PROBE_TIMEOUT):
            return await probe()
    except trio.TooSlowError:
        return ComponentHealth(False, f"no answer within {PROBE_TIMEOUT:g} s", is_vital=True)
    except SerchaError as error:
        return ComponentHealth(False, error.message, is_vital=True)


def _status(components: dict[str, ComponentHealth]) -> str:
    sick = [component for component in components.values() if not component.is_healthy]
    if any(component.is_vital for component in sick):
        return "unhealthy"
    return "degraded" if sick else "healthy"
