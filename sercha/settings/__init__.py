"""Settings: read once from a given environment into one frozen value; nothing else reads variables.

`table` declares every variable, `parsing` turns text into values, `load` puts both together and reports all
mistakes at once, `describe` shows the outcome with secrets masked.
"""

from sercha.settings.describe import SettingRow, describe
from sercha.settings.load import UnknownVariable, load_settings, unknown_variables
from sercha.settings.model import Role, Settings, ValueSource
from sercha.settings.setting import Setting
from sercha.settings.table import SETTINGS, UNSUPPORTED

__all__ = [
    "SETTINGS",
    "UNSUPPORTED",
    "Role",
    "Setting",
    "SettingRow",
    "Settings",
    "UnknownVariable",
    "ValueSource",
    "describe",
    "load_settings",
    "unknown_variables",
]
