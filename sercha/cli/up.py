"""`sercha up`: the embedded default, from an empty folder to a log-in that works and folders that are indexed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shutil import which
from uuid import UUID

import structlog
import trio

from sercha.cli.api import Access, open_api, with_tokens
from sercha.cli.follow import Followed, follow_syncs
from sercha.cli.profile import Profile, lock_profile, profile_path, save_profile
from sercha.cli.run import run_announced, until_signal
from sercha.cli.survey import print_surveys
from sercha.embedded import (
    Embedded,
    FirstLogin,
    ensure_admin,
    ensure_sources,
    open_embedded,
    prepare,
)
from sercha.errors import SerchaError
from sercha.roles.api.serve import bind
from sercha.services.ports.task_admin import TaskFilter
from sercha.settings import Settings
from sercha.supervisor import Running, run_roles
from sercha.wiring import (
    Process,
    make_accounts,
    make_sources,
    make_task_admin,
    open_process,
)

TASKS_LOOKED_AT = 100

_log = structlog.get_logger()


async def run_up(settings: Settings, paths: Sequence[Path], environ: dict[str, str]) -> None:
    """Run everything until a signal comes; what was started here is stopped here.

    Raises:
        SettingsError: a path or the data folder cannot be used.
        Conflict: the port or the data folder is in use.
    """
    await _require_port(settings)
    async with until_signal() as drain, open_embedded(settings, paths) as embedded:
        async with open_process(embedded.settings) as process:
            await prepare(embedded, process)
        await run_announced(
            partial(run_roles, embedded.settings, drain=drain, remembered_roots=embedded.roots),
            partial(_welcome, embedded, paths, drain, environ),
        )


async def _require_port(settings: Settings) -> None:
    """Find out before anything is made whether the API could listen; the API itself finds out anew.

    Raises:
        SettingsError: the port is in use, or the address cannot be listened on.
    """
    if settings.port:
        for listener in await bind(settings.host, settings.port):
            listener.close()


async def _welcome(
    embedded: Embedded,
    paths: Sequence[Path],
    drain: trio.Event,
    environ: dict[str, str],
    running: Running,
) -> None:
    process, url = running.process, running.urls[0]
    login = await ensure_admin(embedded, make_accounts(process))
    sources = make_sources(process)
    try:
        names = await ensure_sources(sources, paths)
    except SerchaError:
        _print_login(login)  # no later start shows the password that this one has made
        raise
    is_logged_in = await _log_in(url, login, embedded, environ)
    _print_welcome(url, login, is_logged_in=is_logged_in)
    if paths:
        await print_surveys(names, paths, embedded.folder.path)
    if names and is_logged_in and not drain.is_set():
        followed = await _newest_syncs(process, names)
        await _follow(url, profile_path(environ), followed, drain)


async def _log_in(
    url: str, login: FirstLogin | None, embedded: Embedded, environ: dict[str, str]
) -> bool:
    """Write the profile, so that client commands work at once; False when the password is not known."""
    if login is None:
        return False
    path = profile_path(environ)
    try:
        password = login.password_file.read_text("utf-8").strip()
        async with open_api(Access(url)) as api:
            answer = await api.post("/auth/login", {"email": login.email, "password": password})
        async with lock_profile(path):
            profile = Profile(url, email=login.email, data_dir=str(embedded.folder.path))
            save_profile(path, with_tokens(profile, answer))
    except (SerchaError, OSError) as error:
        # The password was changed, or the home folder is read-only: Sercha itself runs well.
        _log.warning("profile.not_written", error=str(error))
        return False
    return True


def _print_welcome(url: str, login: FirstLogin | None, *, is_logged_in: bool) -> None:
    print(f"ready: {url}", flush=True)
    _print_login(login)
    if is_logged_in:
        print(f'search: {_own_name()} search "some words"', flush=True)
    else:
        print(f"log in: {_own_name()} login --url {url}", flush=True)


def _print_login(login: FirstLogin | None) -> None:
    if login is not None and login.is_new:
        password = login.password_file.read_text("utf-8").strip()
        print(f"log in: {login.email}, password {password} (kept in {login.password_file})")
    elif login is not None:
        print(f"log in: {login.email}, password in {login.password_file}")
    sys.stdout.flush()


def _own_name() -> str:
    """Return how to call this command from where the user stands."""
    if which("sercha"):
        return "sercha"
    script = Path(sys.argv[0])
    return f"{sys.executable} -m sercha" if script.name == "__main__.py" else str(script)


async def _newest_syncs(process: Process, names: Sequence[str]) -> list[Followed]:
    tasks = await make_task_admin(process).list(TaskFilter(), limit=TASKS_LOOKED_AT)
    tasks.sort(key=lambda task: task.created_at, reverse=True)
    newest: dict[str, UUID] = {}
    for task in tasks:
        newest.setdefault(str(task.payload.get("source_id")), task.id)
    return [
        Followed(str(source.id), source.name, str(newest[str(source.id)]))
        for source in await process.sources.list()
        if source.name in names and str(source.id) in newest
    ]


async def _follow(url: str, profile: Path, followed: Sequence[Followed], drain: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await drain.wait()
            nursery.cancel_scope.cancel("draining")

        nursery.start_soon(stop)
        try:
            async with open_api(Access(url, profile_path=profile)) as api:
                await follow_syncs(api, followed)
        except SerchaError as error:
            print(f"sercha: warning: {error.message}", file=sys.stderr)
        nursery.cancel_scope.cancel("all are done")
