"""The server's process: started until it answers, stopped until it is gone.

It listens on loopback and asks for a password that exists in the memory of the two processes only: it comes with
the rest of the configuration through the server's standard input.
"""

from __future__ import annotations

import secrets
import signal
import socket
from contextlib import closing

import trio

from sercha.adapters.embedded_redis.place import Place
from sercha.adapters.embedded_servers.process import ServerChild
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


class ServerProcess(ServerChild):
    """One server, over any number of starts; its address and its password stay the same."""

    def __init__(self, place: Place) -> None:
        super().__init__("redis", place.log, place.account, STOP_STEPS)
        self.place = place
        self._port = _free_port()
        self._password = secrets.token_urlsafe(32)
        self._has_answered = False

    @property
    def url(self) -> str:
        """The address with the password: a secret."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

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

    async def _launch(self) -> bool:
        """Start the process; return True when it answers, False when it ended before."""
        # It is told its configuration before anything can be cancelled: without one it would listen as it likes.
        process = await self.spawn(self._command(), cwd=self.place.home, told=self._configuration())
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
