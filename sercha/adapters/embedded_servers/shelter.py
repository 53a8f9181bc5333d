"""Where root puts what the account of a server cannot reach otherwise."""

from __future__ import annotations

from pathlib import Path

SHELTER = Path("/var/lib/sercha")


def make_public(folder: Path) -> None:
    """Make a folder that everybody may enter; one that exists is left as it is."""
    for place in (*reversed(folder.parents), folder):
        try:
            place.mkdir()
        except FileExistsError:
            continue
        place.chmod(0o755)  # whatever the umask
