"""The server's process: started until it answers, stopped until it is gone.

It listens on loopback and asks for a password that exists in the memory of the two processes only: it comes with
the rest of the configuration through the server's standard input. A session of its own keeps Ctrl-C away from it.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from contextlib import closing, suppress

import structlog
import trio

from sercha.adapters.embedded_postgres.account import ENVIRONMENT
from sercha.adapters.embedded_postgres.serverlog import open_log, read_log
from sercha.adapters.embedded_redis.place import Place
from sercha.errors import Unavailable

LOOPBACK = "127.0.0.1"
START_SECONDS = 20
ANSWER_SECONDS = 1
RETRY_SECONDS = 0.3
POLL_SECONDS = 0.03
STOP_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
PORT_TAKEN = "Address already in use"
SETTINGS = {
    "daemonize": "no",
    "pidfile": "pid",
    "logfile": '""',
    "loglevel": "warning",
    "protected-mode": "yes",
    "databases": "1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory": "128mb",
    "maxmemory-policy": "noeviction",
}

log = structlog.get_logger()


class ServerProcess:
    """One server, over any number of starts; its address and its password stay the same."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._port = _free_port()
        self._password = secrets.token_urlsafe(32)
        self._process: trio.Process | None = None
        self._has_answered = False
        self._log_start = 0

    @property
    def url(self) -> str:
        """The address with the password: a secret."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's pid, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def last_words(self) -> str:
        """Return the end of what the server has logged since its last start."""
        return read_log(self.place.log, self._log_start)

    async def start(self) -> None:
        """Start the server and wait until it answers, its data loaded.

        Raises `Unavailable` (`redis-start`) with the last lines of its log, after 20 s at the latest. When it raises or
        is cancelled the server may be half started: `stop` it.
        """
        with trio.move_on_after(START_SECONDS):
            while not await self._launch():
                if PORT_TAKEN not in self.last_words():
                    break
                if not self._has_answered:
                    self._port = _free_port()
                await trio.sleep(RETRY_SECONDS)
            else:
                self._has_answered = True
                return
        raise Unavailable(
            f"the embedded Valkey in {self.place.home} does not start: {self.last_words()}",
            code="redis-start",
        )

    async def wait_end(self) -> int:
        """Wait until the server has ended; return its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop the server and wait until it is gone: politely, then not, for 15 s at most.

        Does nothing without a server. Cancellation does not shorten it.
        """
        process = self._process
        if process is None:
            return
        with trio.CancelScope(shield=True):
            for step, seconds in STOP_STEPS:
                process.send_signal(step)
                with trio.move_on_after(seconds) as scope:
                    await process.wait()
                if not scope.cancelled_caught:
                    return
                log.warning("redis.stop_delayed", pid=process.pid, signal=step.name)

    async def _launch(self) -> bool:
        """Start the process; return True when it answers, False when it ended before."""
        file, self._log_start = open_log(self.place.log)
        with file, trio.CancelScope(shield=True):  # no process is ever without an owner
            self._process = await trio.lowlevel.open_process(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=file.fileno(),
                stderr=file.fileno(),
                cwd=self.place.home,
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                **self.place.account.identity(),
            )
            # Under the shield as well: without its configuration it would listen as it likes. A pipe takes so
            # little at once, whether it is read or not.
            assert self._process.stdin is not None
            with suppress(trio.BrokenResourceError):
                async with self._process.stdin as stream:
                    await stream.send_all(self._configuration())
        assert self._process is not None
        process = self._process
        while process.poll() is None:
            if await self._answers():
                return True
            await trio.sleep(POLL_SECONDS)
        return False

    async def _answers(self) -> bool:
        """Say whether the server takes our password and is done with loading."""
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with await trio.open_tcp_stream(LOOPBACK, self._port) as stream:
                    await stream.send_all(f"AUTH {self._password}\r\nPING\r\n".encode())
                    found = b""
                    async for chunk in stream:
                        found = found[-100:] + chunk
                        if b"+PONG\r\n" in found:
                            return True
                        if b"-LOADING" in found:
                            return False
            except (OSError, trio.BrokenResourceError):
                return False
        return False

    def _command(self) -> list[str]:
        # As an argument, because the server's title has only as much room as its command line had.
        title = f"{{title}} {{listen-addr}} {self.place.mark}"
        return [str(self.place.program), "--proc-title-template", title, "-"]

    def _configuration(self) -> bytes:
        lines = {
            "bind": LOOPBACK,
            "port": str(self._port),
            "requirepass": self._password,
            **SETTINGS,
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items()).encode()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
