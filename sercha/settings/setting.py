"""What one setting is: a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sercha.settings.model import Role

Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable."""

    name: str
    meaning: str
    allowed: str
    parse: Callable[[str], object]
    default: str | None = None
    """As it would be written in the environment."""
    compute_default: Callable[[Environ, Role], str | None] | None = None
    """Where the default depends on the role or the machine."""
    default_note: str = ""
    """What the reference says instead of ``default``."""
    required_in: frozenset[Role] = frozenset()
    is_secret: bool = False
    """Never shown; may be given as ``NAME_FILE``."""
    is_made_by_up: bool = False
    """`sercha up` makes it and keeps it in the data folder when it is not given."""
    is_path: bool = False
    """Paths may hold any bytes."""
    mask: Callable[[str], str] = field(default=lambda _: "***")
    flag: str = ""
    field_name: str = ""
    """The field of `Settings`; by default the name in lower case."""

    @property
    def field(self) -> str:
        """The field of `Settings` that holds the value."""
        return self.field_name or self.name.lower()
