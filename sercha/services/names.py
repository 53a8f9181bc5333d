"""What a name that people give to something must be."""

from __future__ import annotations

from sercha.errors import Rejected

NAME_CHARS_MAX = 200


def checked_name(name: str) -> str:
    """Return *name* without space around it.

    Raises:
        Rejected: it is empty, too long, or has characters that cannot be shown.
    """
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Rejected(f"name: give 1 to {NAME_CHARS_MAX} printable characters", code="bad-field")
    return name
