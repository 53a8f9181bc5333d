"""The account that the servers run under.

PostgreSQL refuses to run as root, so root lends it an unprivileged account. What that account can reach is
asked of the system by a small child process: modes, access lists and mounts all count.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sercha.errors import SettingsError

UNPRIVILEGED = ("sercha", "postgres", "nobody")
PROBE_SECONDS = 20
# Nothing of our environment steers the server; LC_ALL keeps its messages in English.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Identity(TypedDict, total=False):
    """The keywords of `subprocess.Popen` that start a process under an account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Whether we run under this account ourselves."""
        return os.geteuid() == self.uid

    def identity(self) -> Identity:
        """Return what makes a child process run under this account."""
        if self.is_ours:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, condition: str, path: Path) -> bool:
        """Say whether a condition of the shell about `"$0"` holds for this account."""
        try:
            done = subprocess.run(  # noqa: S603
                ["/bin/sh", "-c", condition, os.fspath(path)],
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_SECONDS,
                check=False,
                **self.identity(),
            )
        except PermissionError as error:
            raise SettingsError(
                f"DATABASE_URL is not set, and root may not start PostgreSQL as user {self.name} "
                f"here ({error.strerror}): run Sercha as an ordinary user, or set DATABASE_URL"
            ) from error
        return done.returncode == 0

    def give(self, path: Path) -> None:
        """Make a file or folder that we have just made belong to this account."""
        if not self.is_ours:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose_account(owner: int) -> Account:
    """Return the account for a cluster in a folder of this owner.

    Our own; as root the folder's owner, or the first unprivileged account if that is root too.
    Raises `SettingsError` when there is none, or it has no name (initdb insists on one).
    """
    uid = os.geteuid()
    if uid != 0 or owner != 0:
        uid = uid or owner
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            raise SettingsError(
                f"DATABASE_URL is not set, and the embedded PostgreSQL needs a user with a name, "
                f"but uid {uid} is in no passwd file: add it there, or set DATABASE_URL"
            ) from None
        return Account(found.pw_name, uid, found.pw_gid)
    for name in UNPRIVILEGED:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise SettingsError(
        "DATABASE_URL is not set, and root cannot run PostgreSQL itself: add a user named "
        f"{UNPRIVILEGED[0]}, or set DATABASE_URL"
    )
