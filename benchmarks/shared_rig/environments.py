"""Virtual environments for peers, from files that pin their versions."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

INSTALL_SECONDS = 300


async def make_environment(folder: Path, requirements: Path) -> Path:
    """Install what *requirements* names into a new environment in *folder*; return its Python.

    Ends the program with the installer's words when it fails, or takes longer than `INSTALL_SECONDS`.
    """
    print(f"installing {requirements.name}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    commands: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements],
    )
    with trio.move_on_after(INSTALL_SECONDS) as scope:
        for command in commands:
            done = await trio.run_process(
                command,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                start_new_session=True,
            )
            if done.returncode != 0:
                words = (done.stdout + done.stderr).decode(errors="replace")[-2_000:]
                raise SystemExit(f"no environment could be made of {requirements.name}:\n{words}")
    if scope.cancelled_caught:
        raise SystemExit(f"{requirements.name} was not installed within {INSTALL_SECONDS} s")
    return python
