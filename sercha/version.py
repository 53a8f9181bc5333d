"""The version of this build; a test holds it equal to the one in ``pyproject.toml``."""

from typing import Final

__version__: Final = "0.1.0"
