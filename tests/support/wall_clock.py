"""A wall clock that jumps, for whole processes: only they see it, all of them at once, and nothing else changes."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from tests.support import require

SOURCE = Path(__file__).with_suffix(".c")


class WallClock:
    """The clock of the processes that are started with `environment`; it begins with the right time.

    *folder* must be readable by all of them, whatever account they run under.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        require("compiler", compiler, "no C compiler is here to make a clock that jumps")
        assert compiler is not None
        library = folder / "wall_clock.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self._offset = folder / "wall_clock.offset"
        self._offset.write_bytes(struct.pack("=q", 0))
        for file in (library, self._offset):
            file.chmod(0o755)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(self._offset)}

    def jump(self, hours: float) -> None:
        """Let the clock be so many hours ahead of the right time from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", int(hours * 3_600e9)))
