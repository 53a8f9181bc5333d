"""The cluster: where it lives, and how it comes to be there, complete or not at all.

Its home is the data folder. When PostgreSQL's account cannot enter that one (root's folders have mode 0700),
the home is a folder of its own below the shelter, and the file `postgres.path` in the data folder names it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_postgres.installation import (
    Installation,
    find_installation,
    make_public,
    usable_installation,
)
from sercha.adapters.embedded_servers.account import ENVIRONMENT, Account, choose_account
from sercha.adapters.embedded_servers.folder import (
    MODE,
    POSTGRES_MAJOR,
    DataFolder,
    hold,
    read_small,
    sync_folder,
    write_private,
)
from sercha.errors import Rejected, SettingsError, Unavailable

ROLE = "sercha"
DATABASE = "sercha"
DRAFT = "postgres.making-"
TERMINATE_SECONDS = 5
WRITABLE = 'test -x "$0" && test -w "$0"'

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Site:
    """All that is fixed about one cluster before it runs."""

    folder: Path
    home: Path
    account: Account
    installation: Installation

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        """Where the server logs to."""
        return self.folder / "postgres.log"


def prepare_site(folder: DataFolder, shelter: Path) -> Site:
    """Find the programs, the account and the home; blocks, so call it in a thread.

    Raises `SettingsError` when the machine cannot run the server for us, `Rejected` when the cluster is
    missing or of another major version (it is left untouched).
    """
    found = find_installation()
    home = _known_home(folder.path)
    known = home or folder.path
    cluster = known / "postgres"
    account = choose_account((cluster if cluster.exists() else known).stat().st_uid)
    if home is None:
        home = _new_home(folder.path, account, shelter)
    elif not account.can(WRITABLE, home):
        raise SettingsError(
            f"--data-dir: user {account.name}, who owns the cluster in {home}, cannot enter that "
            "folder: give the folder back to that user, or move it to where that user can enter"
        )
    _check_major(home / "postgres")
    return Site(folder.path, home, account, usable_installation(found, account, shelter))


def _known_home(folder: Path) -> Path | None:
    pointer = read_small(folder / "postgres.path").removesuffix("\n")
    if pointer:
        if not Path(pointer).is_dir():
            raise Rejected(
                f"the data folder {folder} keeps its PostgreSQL cluster in {pointer}, which is "
                f"missing: bring it back, or remove {folder} to start empty",
                code="data-dir-cluster",
            )
        return Path(pointer)
    return folder if (folder / "postgres").exists() else None


def _new_home(folder: Path, account: Account, shelter: Path) -> Path:
    if account.can(WRITABLE, folder):
        return folder
    home = shelter / "clusters" / secrets.token_hex(8)
    try:
        make_public(home.parent)
        _tell_abandoned(home.parent)
        home.mkdir(mode=MODE)
        write_private(home / "data_dir", f"{folder}\n")  # for whoever wonders whose this is
        account.give(home)
        write_private(folder / "postgres.path", f"{home}\n")
    except OSError as error:
        raise SettingsError(
            f"--data-dir: user {account.name} cannot enter {folder}, and the cluster cannot live in "
            f"{home} either ({error.strerror}): choose a folder of that user, or set DATABASE_URL"
        ) from error
    log.info("cluster.placed", home=str(home), data_dir=str(folder), user=account.name)
    return home


def _tell_abandoned(clusters: Path) -> None:
    """Name the clusters whose data folder is gone; whether they may go, too, is for people to say."""
    for note in clusters.glob("*/data_dir"):
        folder = read_small(note).removesuffix("\n")
        if folder and not Path(folder).exists():
            log.warning("cluster.abandoned", home=str(note.parent), data_dir=folder)


def _check_major(cluster: Path) -> None:
    if not cluster.exists():
        return
    found = read_small(cluster / "PG_VERSION").strip()
    if found != str(POSTGRES_MAJOR):
        what = f"a cluster of PostgreSQL {found[:20]}" if found else "no PostgreSQL cluster"
        raise Rejected(
            f"{cluster} holds {what}, this Sercha runs PostgreSQL {POSTGRES_MAJOR}; nothing was "
            "changed: start the version of Sercha that made it, or choose another --data-dir",
            code="data-dir-version",
        )


@contextmanager
def hold_home(site: Site) -> Generator[None]:
    """Hold the home, too: a copied data folder names the same one."""
    descriptor = os.open(site.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        hold(descriptor, site.home)
        yield
    finally:
        os.close(descriptor)


def keep_password(folder: Path, cluster: Path) -> str:
    """Return the password of the superuser, made with the first cluster and kept beside it."""
    path = folder / "postgres.password"
    password = read_small(path).strip()
    if password:
        return password
    if cluster.exists():
        raise Rejected(
            f"{path} is missing, and nobody else knows the password of the cluster: bring the file "
            "back, or choose another folder with --data-dir and index again",
            code="data-dir-cluster",
        )
    password = secrets.token_urlsafe(32)
    write_private(path, password + "\n")
    return password


async def make_cluster(site: Site, password: str) -> None:
    """Make the cluster unless it exists; cancelled or killed at any moment, none is left behind.

    It is built under another name and renamed when it is complete and on disk. Raises
    `Unavailable` (`postgres-start`) with the words of initdb.
    """
    await trio.to_thread.run_sync(_remove_drafts, site)
    if site.data.exists():
        return
    draft = site.home / f"{DRAFT}{secrets.token_hex(4)}"
    secret = draft.with_suffix(".password")
    try:
        write_private(secret, password)
        site.account.give(secret)
        done = await trio.run_process(
            _initdb(site, draft, secret),
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            deliver_cancel=_terminate,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            **site.account.identity(),
        )
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()[-2000:]
            raise Unavailable(
                f"initdb could not make a cluster in {site.home}: {words}", code="postgres-start"
            )
        draft.rename(site.data)
        sync_folder(site.home)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_remove_drafts, site)
    log.info("cluster.created", data=str(site.data))


def _initdb(site: Site, draft: Path, secret: Path) -> list[str]:
    return [
        site.installation.program("initdb"),
        f"--pgdata={draft}",
        f"--username={ROLE}",
        f"--pwfile={secret}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
    ]


async def _terminate(process: trio.Process) -> None:
    """End initdb and its children, which form a session of their own."""
    for step in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, step)
        await trio.sleep(TERMINATE_SECONDS)


def _remove_drafts(site: Site) -> None:
    remove = partial(shutil.rmtree, ignore_errors=True)
    for path in site.home.glob(f"{DRAFT}*"):
        if path.is_dir() and not path.is_symlink():
            remove(path)
        else:
            path.unlink(missing_ok=True)
