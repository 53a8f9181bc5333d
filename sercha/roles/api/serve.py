"""Serves the API on its own socket: bind first, so that a port in use is one clear error; then drain in order."""

from __future__ import annotations

import errno
import socket
from functools import partial

import structlog
import trio
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.utils import repr_socket_addr  # pyright: ignore[reportUnknownVariableType]

from sercha.errors import SettingsError
from sercha.roles.api import connections
from sercha.roles.api.app import create_app
from sercha.roles.api.context import ProbeServices
from sercha.roles.api.port_holder import holder_of
from sercha.roles.api.traffic import Traffic

HEAD_BYTES_MAX = 128 * 1024
"""Request line with headers. Above the longest query that gets an answer in words (100 kB)."""
KEEP_ALIVE = 75.0
"""Seconds; longer than a proxy keeps its side, so that it is never the proxy that meets a closed connection."""
LINGER = 0.5
"""Seconds of a drain in which connections are still taken, and told 503, so that balancers see an answer."""
CLOSE_GRACE = 1.0
"""Seconds for the last bytes of answers once the requests are done, or were given up."""
BACKLOG = 1_024
PORT_MAX = 65_535

_log = structlog.get_logger()


async def run_api(
    services: ProbeServices,
    *,
    host: str,
    port: int,
    drain: trio.Event,
    grace: float,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API until *drain* is set, then let requests under way finish for up to *grace* seconds.

    Starts with the addresses (``http://127.0.0.1:8080``); port 0 takes a free one. While it drains, new requests
    are answered 503 before they have any effect. Cancellation cuts off whatever is under way.

    Raises:
        SettingsError: the port is in use (``port-in-use``), or the address cannot be listened on.
    """
    sockets = await bind(host, port)
    traffic = Traffic(drain)
    app = create_app(services, traffic=traffic)
    urls = [_url(each) for each in sockets]
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                connections.serve, app, _config(), sockets, until=partial(_drained, traffic, grace)
            )
        )
        task_status.started(urls)


async def _drained(traffic: Traffic, grace: float) -> None:
    await traffic.wait_drain()
    _log.info("api.draining", requests=traffic.under_way)
    give_up_at = trio.current_time() + max(grace, 0.0)
    with trio.move_on_at(give_up_at):
        await trio.sleep(LINGER)
        await traffic.wait_idle()
    _log.info("api.drained", requests_given_up=traffic.under_way)


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on *port* of all addresses that *host* stands for.

    Raises:
        SettingsError: the port is in use (``port-in-use``), or the address cannot be listened on.
    """
    if not 0 <= port <= PORT_MAX:
        raise SettingsError(f"HOST {host!r}, PORT {port}: ports go from 0 to {PORT_MAX}")
    try:
        found = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise SettingsError(f"HOST {host!r}, PORT {port}: there is no such address") from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            # With port 0 the first address chooses, the others follow.
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_listen(family, (address[0], chosen, *address[2:]), host))
    except OSError as error:
        for each in sockets:
            each.close()
        raise await trio.to_thread.run_sync(_bind_error, error, host, port) from None
    return sockets


def _listen(family: int, address: tuple[object, ...], host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Connections inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, connections.SEND_BUFFER)
        if family == socket.AF_INET6:
            # "::" means IPv4 too, as people expect of it; other addresses mean themselves.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_error(error: OSError, host: str, port: int) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        by = f" by {holder}" if holder else " by another program"
        return SettingsError(
            f"port {port} on {host} is in use{by}: stop it, or choose another with --port (or PORT)",
            code="port-in-use",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SettingsError(
            f"port {port} on {host} needs privileges: choose one above 1023 with --port (or PORT)",
            code="port-forbidden",
        )
    return SettingsError(f"HOST {host!r}, PORT {port}: cannot listen there ({error.strerror})")


def _url(listener: socket.socket) -> str:
    return f"http://{repr_socket_addr(listener.family, listener.getsockname())}"


def _config() -> Config:
    config = Config()
    config.graceful_timeout = CLOSE_GRACE
    config.keep_alive_timeout = KEEP_ALIVE
    config.keep_alive_max_requests = 100_000
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.include_server_header = False
    config.logger_class = _ServerLog
    return config


class _ServerLog(Logger):
    """Hypercorn's own log, in ours; requests are logged by the application."""

    def __init__(self, config: Config) -> None:
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: object, response: object, request_time: float) -> None:
        """Log nothing."""

    async def debug(self, message: str, *args: object, **_: object) -> None:
        """Log for developers."""
        _log.debug("server.reported", message=message % args)

    async def info(self, message: str, *args: object, **_: object) -> None:
        """Log for developers: what the server says (addresses) is said by others as well."""
        _log.debug("server.reported", message=message % args)

    async def warning(self, message: str, *args: object, **_: object) -> None:
        """Log a warning."""
        _log.warning("server.reported", message=message % args)

    async def error(self, message: str, *args: object, **_: object) -> None:
        """Log an error."""
        _log.error("server.reported", message=message % args)

    async def critical(self, message: str, *args: object, **_: object) -> None:
        """Log an error."""
        _log.error("server.reported", message=message % args)

    async def exception(self, message: str, *args: object, **_: object) -> None:
        """Log an error with its traceback."""
        _log.error("server.reported", message=message % args, exc_info=True)
