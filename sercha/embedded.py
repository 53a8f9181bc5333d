"""Everything that `sercha up` adds: a private PostgreSQL and Redis, secrets, a first administrator, first sources.

What it makes it keeps in the data folder, so that the next start finds everything again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import structlog
import trio

from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_redis import embedded_redis
from sercha.adapters.embedded_servers import DataFolder, data_folder
from sercha.adapters.embedded_servers.folder import write_private
from sercha.adapters.postgres.errors import first_contact
from sercha.adapters.postgres.migrate import migrate
from sercha.domain.source import ProviderType
from sercha.errors import Forbidden, Rejected, SettingsError
from sercha.services.accounts import Accounts
from sercha.services.sources import Sources
from sercha.settings import Settings
from sercha.wiring import Process

ADMIN_EMAIL = "admin@sercha.local"
PASSWORD_FILE = "admin-password"  # noqa: S105 - a file name
SECRETS_FILE = "secrets.json"
"""A list: the secret that signs tokens, the key that encrypts credentials."""
ROOTS_FILE = "roots.json"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Embedded:
    """What `sercha up` runs on."""

    folder: DataFolder
    settings: Settings
    """With every secret and the address of PostgreSQL in place; of Redis, too, if there is one."""
    owns_postgres: bool
    roots: tuple[Path, ...]
    """Folders given with ``--index`` now or earlier."""


@dataclass(frozen=True, slots=True)
class FirstLogin:
    """How to log in as the administrator that `sercha up` made."""

    email: str
    password_file: Path
    is_new: bool
    """Made by this start: show the password now."""


@asynccontextmanager
async def open_embedded(
    settings: Settings, index_paths: Sequence[Path] = ()
) -> AsyncGenerator[Embedded]:
    """Hold the data folder and run what the settings do not give.

    Raises:
        SettingsError: a path of *index_paths* can be no source, or the data folder cannot be used.
        Conflict: another process uses the folder.
    """
    if settings.data_dir is None:
        raise SettingsError("DATA_DIR: is required for `up`; give --data-dir")
    paths = [await _indexable(path, settings.data_dir) for path in index_paths]
    with data_folder(settings.data_dir) as folder:
        settings = replace(settings, data_dir=folder.path, **_kept_secrets(folder, settings))
        roots = _remember_roots(folder, paths)
        if settings.database_url is not None:
            # Others may use that PostgreSQL, too: a Redis of our own would be one that they do not know.
            yield Embedded(folder, settings, owns_postgres=False, roots=roots)
            return
        async with embedded_postgres(folder) as server, _redis_url(folder, settings) as redis_url:
            settings = replace(settings, database_url=server.conninfo, redis_url=redis_url)
            yield Embedded(folder, settings, owns_postgres=True, roots=roots)


@asynccontextmanager
async def _redis_url(folder: DataFolder, settings: Settings) -> AsyncGenerator[str | None]:
    """Give the address of Redis: the one that is set, else of a private one, else None."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    async with embedded_redis(folder) as server:
        yield server.url if server is not None else None


async def prepare(embedded: Embedded, process: Process) -> None:
    """Bring the schema up to date and take back the tasks that an earlier run was killed with.

    Raises:
        SettingsError: PostgreSQL refuses the log-in.
        Unavailable: PostgreSQL is away.
    """
    with first_contact():
        await migrate(process.pool)
    if embedded.owns_postgres and (count := await process.queue.release_all()):
        # Nobody else can live on this PostgreSQL: we hold its folder.
        _log.info("task.recovered", count=count)


async def ensure_admin(embedded: Embedded, accounts: Accounts) -> FirstLogin | None:
    """Make the first administrator if there is no user; None when users were made by other means."""
    file = embedded.folder.path / PASSWORD_FILE
    if await accounts.is_set_up():
        return FirstLogin(ADMIN_EMAIL, file, is_new=False) if file.exists() else None
    password = secrets.token_urlsafe(12)
    # Before the account: a crash in between leaves a file too many, never an account without password.
    await trio.to_thread.run_sync(write_private, file, password + "\n")
    try:
        await accounts.setup(
            "Administrator", ADMIN_EMAIL, password, setup_token=embedded.settings.setup_token
        )
    except Forbidden:  # somebody else was faster, on a PostgreSQL that others use too
        return None
    return FirstLogin(ADMIN_EMAIL, file, is_new=True)


async def ensure_sources(sources: Sources, paths: Sequence[Path]) -> list[str]:
    """Make a source of each path that is none yet, ask for a sync of each; return their names."""
    names: list[str] = []
    for path in paths:
        resolved = path.resolve()
        source = next(
            (
                summary.source
                for summary in await sources.list()
                if summary.source.provider_type is ProviderType.LOCALFS
                and summary.source.config.get("paths") == [str(resolved)]
            ),
            None,
        )
        if source is None:
            source = await sources.create(
                await _free_name(sources, resolved),
                ProviderType.LOCALFS,
                {"paths": [str(resolved)]},
                created_by=None,
            )
        if source.enabled:
            await sources.request_sync(source.id)
        names.append(source.name)
    return names


async def _free_name(sources: Sources, path: Path) -> str:
    taken = {summary.source.name for summary in await sources.list()}
    base = "".join(char for char in path.name if char.isprintable())[:150].strip() or "files"
    names = [base, *(f"{base} {number}" for number in range(2, 1_000))]
    return next(name for name in names if name not in taken)


async def _indexable(path: Path, data_dir: Path) -> Path:
    """Return *path* without links, checked by the rules of the connector before anything is made or kept.

    Raises:
        SettingsError: no source can be made of it.
    """
    try:
        config = await Localfs([path], data_dir).validate({"paths": [str(path)]})
    except Rejected as error:
        reason = error.message.removeprefix("config: ").removeprefix("paths: ")
        raise SettingsError(f"--index: {reason}") from None
    (real,) = cast("list[str]", config["paths"])
    return Path(real)


def _kept_secrets(folder: DataFolder, settings: Settings) -> dict[str, Any]:
    """Return the secrets that the settings do not give, made once and kept."""
    file = folder.path / SECRETS_FILE
    kept = _read_strings(file)
    if len(kept) != 2:
        kept = [secrets.token_urlsafe(48), secrets.token_hex(32)]
        write_private(file, json.dumps(kept) + "\n")
    return {
        "jwt_secret": settings.jwt_secret or kept[0],
        "master_key": settings.master_key or bytes.fromhex(kept[1]),
    }


def _remember_roots(folder: DataFolder, paths: Sequence[Path]) -> tuple[Path, ...]:
    file = folder.path / ROOTS_FILE
    kept = set(_read_strings(file))
    roots = kept | {str(path) for path in paths}
    if roots != kept:
        write_private(file, json.dumps(sorted(roots)) + "\n")
    return tuple(Path(root) for root in sorted(roots))


def _read_strings(file: Path) -> list[str]:
    """Read a JSON list of strings; a missing file is an empty one.

    Raises:
        Rejected: the file is damaged.
    """
    try:
        content: object = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        content = None
    if not isinstance(content, list):
        raise Rejected(f"{file}: is damaged; restore it or move it away", code="data-dir-version")
    return [str(item) for item in cast("list[object]", content)]
