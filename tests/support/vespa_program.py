"""The stand-in as a process of its own, for tests with real processes of Sercha."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import trio

from sercha.testing.cluster.plan import REPOSITORY

READY_TIME = 30.0


@dataclass(frozen=True)
class VespaProgram:
    """A running stand-in."""

    config_url: str
    container_urls: tuple[str, ...]

    @property
    def settings(self) -> dict[str, str]:
        """What Sercha's processes are told."""
        return {
            "VESPA_CONFIG_URL": self.config_url,
            "VESPA_CONTAINER_URL": ",".join(self.container_urls),
        }

    async def stop_container(self, number: int) -> None:
        """Reset a container's connections and refuse further ones."""
        await self._tell(f"containers/{number}/stop")

    async def start_container(self, number: int) -> None:
        """Let a container serve again."""
        await self._tell(f"containers/{number}/start")

    async def add_fault(self, **fault: object) -> None:
        """Switch a fault on."""
        await self._tell("faults", fault)

    async def _tell(self, what: str, content: object = None) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"{self.config_url}/stand-in/{what}"
            (await client.post(url, json=content, timeout=10)).raise_for_status()


@asynccontextmanager
async def open_vespa_program(*, containers: int = 2) -> AsyncGenerator[VespaProgram]:
    """Start it on free ports; it ends with the block."""
    command = [sys.executable, "-m", "tests.vespa", "--port", "0", "--control"]
    command += ["--container-port", "0"] * containers
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=False
        )
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        try:
            with trio.fail_after(READY_TIME):
                line = b""
                while not line.endswith(b"\n"):
                    part = await process.stdout.receive_some()
                    assert part, "the stand-in for Vespa did not start"
                    line += part
            _, config_url, *container_urls, _ = line.decode().split()
            yield VespaProgram(config_url, tuple(container_urls))
        finally:
            process.kill()
