"""Counts folders of this machine and says what their syncs will read, while the syncs begin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_survey import Survey
from sercha.cli.show import safe
from sercha.errors import SerchaError

SECONDS = 10.0
"""For counting one source; a home folder of a million files takes longer, and is not waited for."""


async def print_surveys(names: Sequence[str], paths: Sequence[Path], own_data_dir: Path) -> None:
    """Print a line for each source, named *names*, of the folders *paths*."""
    for name, path in zip(names, paths, strict=True):
        await print_survey(name, {"paths": [str(path.resolve())]}, own_data_dir)


async def print_survey(
    name: str, config: dict[str, object], own_data_dir: Path | None = None
) -> None:
    """Print what the sync of a source will read, as this user sees it; nothing where that is nothing.

    Cancellation ends the counting. A folder that this machine does not have, or does not show to this user,
    is the workers' affair: they report it.
    """
    roots = [Path(path) for path in cast("list[str]", config["paths"])]
    try:
        survey = await Localfs(roots, own_data_dir).survey(config, seconds=SECONDS)
    except SerchaError:
        return
    print(f"{safe(name)}: {describe(survey)}", file=sys.stderr, flush=True)


def describe(survey: Survey) -> str:
    """Say what was counted, such as ``1,204 files to read (3.1 MB), 14 left out: 12 hidden, 2 too large``."""
    more = "" if survey.is_whole else "more than "
    line = f"{more}{survey.files:,} files to read ({_size(survey.bytes)})"
    if survey.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in survey.left_out.items())
        line += f", {sum(survey.left_out.values()):,} left out: {reasons}"
    return line


def _size(count: int) -> str:
    if count < 1_000_000:
        return f"{count / 1_000:,.1f} kB"
    if count < 1_000_000_000:
        return f"{count / 1_000_000:,.1f} MB"
    return f"{count / 1_000_000_000:,.1f} GB"
