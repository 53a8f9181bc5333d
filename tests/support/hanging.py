"""An event loop that hangs, for as long as a test wants."""

from __future__ import annotations

import time
from pathlib import Path


def hang(until: Path) -> None:
    """Block whoever calls this until somebody makes the file."""
    while not until.exists():
        time.sleep(0.01)
