"""What `sercha doctor` finds without asking another program: settings, Python, folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sercha.errors import SettingsError
from sercha.settings import Role, Settings, load_settings, unknown_variables

PYTHON_MIN = (3, 11)
FREE_BYTES_WARN = 1024**3
FREE_BYTES_FAIL = 100 * 1024**2


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    verdict: Verdict
    message: str
    mend: str = ""
    """What to do about it."""


def check_settings(environ: Mapping[str, str], role: Role) -> tuple[Settings | None, list[Finding]]:
    """Read the settings for *role*; None when they cannot be used."""
    findings = [
        Finding(
            "settings",
            Verdict.WARN,
            f"{unknown.name} is no setting",
            f"rename it to {unknown.nearest}" if unknown.nearest else "unset it",
        )
        for unknown in unknown_variables(environ)
    ]
    try:
        settings = load_settings(environ, role=role)
    except SettingsError as error:
        findings += [
            Finding("settings", Verdict.FAIL, line, "see `docs/reference/configuration.md`")
            for line in error.message.splitlines()
        ]
        return None, findings
    findings.append(Finding("settings", Verdict.OK, f"valid for `{role}`"))
    if settings.sercha_dev:
        findings.append(
            Finding("settings", Verdict.WARN, "SERCHA_DEV accepts weak secrets", "unset SERCHA_DEV")
        )
    return settings, findings


def check_machine(settings: Settings) -> list[Finding]:
    """Check Python and the folders of this machine."""
    findings = [_check_python()]
    keeps_copy = settings.role.runs_api and settings.search_engine != "vespa"
    if (keeps_copy or settings.role is Role.UP) and settings.data_dir is not None:
        findings += _check_data_dir(settings.data_dir)
    if settings.role.runs_worker:
        findings += [_check_root(root) for root in settings.localfs_allowed_roots]
    return findings


def _check_python() -> Finding:
    version = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        needed = ".".join(map(str, PYTHON_MIN))
        return Finding("python", Verdict.FAIL, f"{version} is too old", f"use {needed} or newer")
    return Finding("python", Verdict.OK, version)


def _check_data_dir(folder: Path) -> list[Finding]:
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        mode = folder.stat().st_mode & 0o777 if folder.exists() else 0o700
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return [Finding("data folder", Verdict.FAIL, f"{folder}: {error.strerror}", "set DATA_DIR")]
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [
            Finding(
                "data folder",
                Verdict.FAIL,
                f"{existing} is no folder we may write to",
                "set DATA_DIR",
            )
        ]
    findings = [_check_space(existing, free)]
    if mode & 0o077:
        findings.append(
            Finding(
                "data folder",
                Verdict.WARN,
                f"{folder} is open to other users (mode {mode:o})",
                f"chmod 700 {folder}",
            )
        )
    return findings


def _check_space(folder: Path, free: int) -> Finding:
    message = f"{folder} has {free / 1024**3:.1f} GiB free"
    if free < FREE_BYTES_FAIL:
        return Finding("data folder", Verdict.FAIL, message, "make room or move DATA_DIR")
    if free < FREE_BYTES_WARN:
        return Finding("data folder", Verdict.WARN, message, "make room or move DATA_DIR")
    return Finding("data folder", Verdict.OK, message)


def _check_root(root: Path) -> Finding:
    mend = "mend LOCALFS_ALLOWED_ROOTS, or the rights of the folder"
    if not root.exists():
        return Finding("allowed root", Verdict.FAIL, f"{root} does not exist", mend)
    if not os.access(root, os.R_OK | (os.X_OK if root.is_dir() else 0)):
        return Finding("allowed root", Verdict.FAIL, f"{root} cannot be read by this user", mend)
    return Finding("allowed root", Verdict.OK, f"{root} can be read")
