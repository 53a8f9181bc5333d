"""Shows settings to people: values with secrets masked, where they came from, and defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from sercha.settings.model import Settings, ValueSource
from sercha.settings.parsing import format_seconds
from sercha.settings.setting import Setting
from sercha.settings.table import SETTINGS


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of ``sercha config``."""

    name: str
    value: str | None
    """None: not set."""
    source: ValueSource
    default: str | None
    meaning: str


def describe(settings: Settings) -> list[SettingRow]:
    """Return a row for each setting in the order of the reference; no secret is in it."""
    return [
        SettingRow(
            setting.name,
            _shown(setting, getattr(settings, setting.field)),
            settings.sources.get(setting.name, ValueSource.DEFAULT),
            setting.default_note or setting.default,
            setting.meaning,
        )
        for setting in SETTINGS
    ]


def _shown(setting: Setting, value: object) -> str | None:
    if value is None or value == ():
        return None
    if setting.is_secret:
        return setting.mask(value) if isinstance(value, str) else "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_seconds(value)
    if isinstance(value, tuple):
        separator = ":" if setting.name == "LOCALFS_ALLOWED_ROOTS" else ","
        return separator.join(str(item) for item in cast("Iterable[object]", value))
    return str(value)
