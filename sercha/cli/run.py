"""Commands that run Sercha itself, and the signals that end it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import trio
import typer

from sercha.cli.exits import run_async
from sercha.cli.limits import raise_open_files
from sercha.settings import Role, Settings, load_settings, unknown_variables
from sercha.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from sercha.supervisor import Running

_log = structlog.get_logger()

Port = Annotated[
    int | None,
    typer.Option("--port", help="TCP port; 0 takes a free one. [PORT]", show_default=False),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on. [HOST]", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (up, api, worker, all_, run):
        app.command(command.__name__.rstrip("_"))(command)


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where everything is kept. [DATA_DIR]", show_default=False),
    ] = None,
    port: Port = None,
    host: Host = None,
    index: Annotated[
        list[Path] | None,
        typer.Option("--index", help="A folder to make searchable; may be given several times."),
    ] = None,
) -> None:
    """Run everything on this machine: PostgreSQL when DATABASE_URL is not set, the API and a worker."""
    from sercha.cli.up import run_up

    overrides = _overrides(port, host)
    if data_dir is not None:
        overrides["DATA_DIR"] = str(data_dir.expanduser().absolute())
    settings = start(Role.UP, overrides)
    paths = tuple(path.expanduser().absolute() for path in index or ())
    run_async(partial(run_up, settings, paths, dict(os.environ)))


def api(port: Port = None, host: Host = None) -> None:
    """Run the API."""
    _serve(Role.API, _overrides(port, host))


def worker(port: Port = None, host: Host = None) -> None:
    """Run a worker."""
    _serve(Role.WORKER, _overrides(port, host))


def all_(port: Port = None, host: Host = None) -> None:
    """Run the API and a worker in one process."""
    _serve(Role.ALL, _overrides(port, host))


def run(port: Port = None, host: Host = None) -> None:
    """Run what RUN_MODE says: all, api or worker."""
    mode = load_settings(os.environ, role=Role.CLIENT).run_mode
    _serve(mode, _overrides(port, host))


def start(role: Role, overrides: dict[str, str]) -> Settings:
    """Read the settings of a process that runs something, and configure its logs.

    Raises:
        SettingsError: see `load_settings`.
    """
    settings = load_settings(os.environ, role=role, overrides=overrides)
    configure_logs(role=role, level=settings.log_level, log_format=settings.log_format)
    raise_open_files()
    for unknown in unknown_variables(os.environ):
        _log.warning("setting.unknown", name=unknown.name, nearest=unknown.nearest)
    return settings


@asynccontextmanager
async def until_signal() -> AsyncGenerator[trio.Event]:
    """Give an event that SIGTERM, SIGINT and SIGHUP set; a second signal cancels the block.

    Raises:
        KeyboardInterrupt: the block was cancelled by the second signal.
    """
    drain = trio.Event()
    is_cut_off = False

    async def watch(
        scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        nonlocal is_cut_off
        with trio.open_signal_receiver(*_signals()) as signals:
            task_status.started()
            async for number in signals:
                if drain.is_set():
                    _log.warning("process.cut_off", signal=signal.Signals(number).name)
                    is_cut_off = True
                    scope.cancel("a second signal")
                    return
                drain.set()
                if sys.stderr.isatty():
                    print("stopping; once more stops at once", file=sys.stderr)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            await nursery.start(watch, scope)  # noqa: ASYNC111 - the watcher outlives the block
            yield drain
        nursery.cancel_scope.cancel("the work has ended")
    if is_cut_off:
        raise KeyboardInterrupt


def _signals() -> list[signal.Signals]:
    signals = [signal.SIGTERM, signal.SIGINT]
    # nohup has it ignored, and it must stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def _serve(role: Role, overrides: dict[str, str]) -> None:
    settings = start(role, overrides)
    from sercha.supervisor import run_roles

    run_async(partial(_announce_roles, run_roles, settings))


async def _announce_roles(run_roles: Callable[..., Awaitable[None]], settings: Settings) -> None:
    async def announce(running: Running) -> None:
        for url in running.urls or (settings.role,):
            print(f"ready: {url}", flush=True)

    async with until_signal() as drain:
        run = partial(run_roles, settings, drain=drain, on_overrun="exit")
        await run_announced(run, announce)


async def run_announced(
    run: Callable[..., Awaitable[None]], announce: Callable[[Any], Awaitable[None]]
) -> None:
    """Run *run*, and *announce* with the value of its ``started()`` beside it, if it comes to that.

    When *run* ends, *announce* is cancelled.
    """
    ready = _Ready()

    async def wait() -> None:
        await ready.event.wait()
        if ready.value is not None:  # else it was drained before
            await announce(ready.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await run(task_status=ready)
        nursery.cancel_scope.cancel("the roles have ended")


class _Ready:
    """A ``task_status`` that keeps the value."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.value: Any = None

    def started(self, value: Any = None) -> None:
        """Keep the value and wake whoever waits."""
        self.value = value
        self.event.set()


def _overrides(port: int | None, host: str | None) -> dict[str, str]:
    given = {"PORT": None if port is None else str(port), "HOST": host}
    return {name: value for name, value in given.items() if value is not None}
