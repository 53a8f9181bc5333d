"""The server's process: started until it answers, stopped until it is gone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from sercha.adapters.embedded_postgres.cluster import Site
from sercha.adapters.embedded_postgres.endpoint import choose_endpoint, try_server
from sercha.adapters.embedded_postgres.stale import MARK, end_orphans
from sercha.adapters.embedded_servers.process import ServerChild
from sercha.errors import Unavailable

START_SECONDS = 60
RETRY_SECONDS = 0.3
POLL_SECONDS = 0.03
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
# What may be over in a moment: backends of a killed postmaster, and a port that was just taken.
STILL_IN_USE = "pre-existing shared memory block"
PORT_TAKEN = "could not create any TCP/IP sockets"
SHARED_MEMORY_BYTES_MIN = 256 * 1024**2
SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "50",
    "max_wal_size": "512MB",
    "fsync": "on",
    "huge_pages": "off",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_statement": "none",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class ServerProcess(ServerChild):
    """One server on one cluster, over any number of starts; its address stays the same."""

    def __init__(self, site: Site, password: str, settings: Mapping[str, str]) -> None:
        super().__init__("postgres", site.log, site.account, STOP_STEPS)
        self.site = site
        self.endpoint = choose_endpoint(site.data)
        self.password = password
        self._settings = {**SETTINGS, **shared_memory(), **settings}
        self._has_answered = False
        self._limiter = trio.CapacityLimiter(1)

    async def start(self) -> None:
        """Start the server and wait until database `sercha` answers, crash recovery included.

        Raises `Unavailable` (`postgres-start`) with the last lines of its log, after 60 s at the latest. When it
        raises or is cancelled the server may be half started: `stop` it.
        """
        with trio.move_on_after(START_SECONDS):
            while not await self._launch():
                self._give_up_unless_passing()
                await trio.sleep(RETRY_SECONDS)
            self._has_answered = True
            return
        raise Unavailable(
            f"the embedded PostgreSQL in {self.site.data} did not answer within {START_SECONDS} s: "
            f"{self.last_words()}",
            code="postgres-start",
        )

    async def stop(self) -> None:
        """Stop the server with all its backends and wait until they are gone, for 35 s at most.

        Does nothing without a server. Cancellation does not shorten it.
        """
        was_started = self.was_started
        await super().stop()
        if was_started:
            with trio.CancelScope(shield=True):
                await end_orphans(self.site)

    async def _launch(self) -> bool:
        """Start the process; return True when it answers, False when it ended before."""
        process = await self.spawn(self._command(), cwd=Path("/"))
        while process.poll() is None:
            if await trio.to_thread.run_sync(
                try_server, self.endpoint, self.password, limiter=self._limiter
            ):
                return True
            await trio.sleep(POLL_SECONDS)
        return False

    def _give_up_unless_passing(self) -> None:
        """Raise unless the reason in the log is one that passes."""
        words = self.last_words()
        if PORT_TAKEN in words and not self._has_answered:
            self.endpoint = choose_endpoint(self.site.data)
        elif STILL_IN_USE not in words and PORT_TAKEN not in words:
            raise Unavailable(
                f"the embedded PostgreSQL in {self.site.data} did not start: {words}",
                code="postgres-start",
            )

    def _command(self) -> list[str]:
        command = [self.site.installation.program("postgres"), "-D", str(self.site.data)]
        # The folder is only for people who look at the list of processes; ASCII, as the server keeps it.
        folder = os.fspath(self.site.folder).encode("ascii", "backslashreplace").decode()
        command += ["-c", MARK, "-c", f"sercha.data_dir={folder}"]
        for name, value in {**self._settings, **self.endpoint.settings()}.items():
            command += ["-c", f"{name}={value}"]
        return command


def shared_memory() -> dict[str, str]:
    """Return the settings for a machine with little shared memory, as containers have by default."""
    if sys.platform != "linux":
        return {}
    try:
        found = os.statvfs("/dev/shm")  # noqa: S108
    except OSError:
        return {"dynamic_shared_memory_type": "mmap"}
    if found.f_blocks * found.f_frsize < SHARED_MEMORY_BYTES_MIN:
        return {"dynamic_shared_memory_type": "mmap"}
    return {}
