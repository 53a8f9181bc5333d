"""The profile: which Sercha client commands talk to and how they log in. Mode 0600, written atomically."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

import trio

from sercha.errors import Rejected, Unavailable

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another command that refreshes the tokens."""
_LOCK_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Profile:
    """A log-in that is kept between commands."""

    url: str
    email: str = ""
    token: str = ""
    """The access token; short-lived."""
    refresh_token: str = ""
    data_dir: str = ""
    """Of the `sercha up` that wrote it."""


def profile_path(environ: Mapping[str, str]) -> Path:
    """Return where the profile of this user is."""
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):
        base = environ.get("HOME", "")
        home = f"{base if base.startswith('/') else pwd.getpwuid(os.getuid()).pw_dir}/.config"
    return Path(home) / "sercha" / "profile.json"


def load_profile(path: Path) -> Profile | None:
    """Read the profile; None when there is none.

    Raises:
        Rejected: it is damaged or cannot be read.
    """
    try:
        content: object = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Rejected(
            f"profile {path}: cannot be read: {error.strerror}", code="bad-profile"
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _damaged(path)
    values = cast("dict[str, object]", content)
    known = {field.name: values.get(field.name, "") for field in fields(Profile)}
    if not all(isinstance(value, str) for value in known.values()) or not known["url"]:
        raise _damaged(path)
    return Profile(**cast("dict[str, str]", known))


def save_profile(path: Path, profile: Profile) -> None:
    """Replace the profile; a crash leaves the old one or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=".profile-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(profile), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(draft).unlink()
        raise


@asynccontextmanager
async def lock_profile(path: Path) -> AsyncGenerator[None]:
    """Let one command at a time change the profile; the lock ends with the block or the process.

    Raises:
        Unavailable: another command holds it for longer than `LOCK_TIMEOUT`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with trio.move_on_after(LOCK_TIMEOUT) as limit:
            while not _try_lock(descriptor):  # noqa: ASYNC110 - the holder is another process
                await trio.sleep(_LOCK_POLL)
        if limit.cancelled_caught:
            raise Unavailable(
                f"profile {path}: another command is busy with it", code="profile-busy"
            )
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _damaged(path: Path) -> Rejected:
    return Rejected(
        f"profile {path}: is damaged; log in again with `sercha login`", code="bad-profile"
    )
