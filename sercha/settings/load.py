"""From an environment to `Settings`: every mistake is found before the first is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sercha.errors import SettingsError
from sercha.settings.model import Role, Settings, ValueSource
from sercha.settings.parsing import derive_key, parse_boolean
from sercha.settings.setting import Environ, Setting
from sercha.settings.table import (
    BY_NAME,
    EMPTY_TUPLES,
    JWT_SECRET_BYTES_MIN,
    KNOWN_SECRETS,
    SETTINGS,
    UNSUPPORTED,
)

FILE_BYTES_MAX = 65_536
_SHOWN_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that looks like a setting and is none."""

    name: str
    nearest: str | None


@dataclass(frozen=True, slots=True)
class _Given:
    """The text of one setting and where it came from."""

    text: str | None
    source: ValueSource


def load_settings(
    environ: Environ,
    *,
    role: Role,
    overrides: Mapping[str, str] | None = None,
) -> Settings:
    """Read all settings for *role*. An empty variable counts as not set.

    *overrides* (from flags of the command line, by variable) win over *environ*.

    Raises:
        SettingsError: one line for each mistake, naming the variable and what is allowed.
    """
    problems = [
        f"{name}: is not supported by this version; leave it unset"
        for name in UNSUPPORTED
        if environ.get(name, "").strip() and role is not Role.CLIENT
    ]
    is_dev = _is_dev(environ, overrides or {})
    values: dict[str, Any] = {}
    sources: dict[str, ValueSource] = {}
    for setting in SETTINGS:
        try:
            given = _find(setting, environ, role, overrides or {})
            values[setting.field] = _value(setting, given, role, is_dev=is_dev)
            sources[setting.name] = given.source
        except ValueError as error:
            problems.append(str(error))
    if not problems:
        problems = _cross_check(values, sources)
    if problems:
        raise SettingsError("\n".join(problems))
    return Settings(role=role, sources=MappingProxyType(sources), **values)


def load_setting(environ: Environ, name: str, *, role: Role) -> Any:
    """Read one setting, by the rules of `load_settings`, and look at no other.

    Raises:
        SettingsError: it has a value that is not allowed, or is missing.
    """
    setting = BY_NAME[name]
    try:
        given = _find(setting, environ, role, {})
        return _value(setting, given, role, is_dev=_is_dev(environ, {}))
    except ValueError as error:
        raise SettingsError(str(error)) from None


def unknown_variables(environ: Environ) -> list[UnknownVariable]:
    """List variables that somebody may have meant as a setting, with the nearest name."""
    known = {setting.name for setting in SETTINGS}
    known |= {f"{setting.name}_FILE" for setting in SETTINGS if setting.is_secret}
    # Short names are left out: half of all environments have something like HOSTS.
    candidates = sorted(name for name in known if "_" in name)
    found: list[UnknownVariable] = []
    for name in sorted(environ.keys() - known - set(UNSUPPORTED)):
        nearest = get_close_matches(name, candidates, n=1, cutoff=0.88)
        is_ours = name.startswith("SERCHA_") and not name.startswith("SERCHA_TEST_")
        if is_ours and not nearest:
            nearest = get_close_matches(
                name.removeprefix("SERCHA_"), sorted(known), n=1, cutoff=0.8
            )
        if nearest or is_ours:
            found.append(UnknownVariable(name, nearest[0] if nearest else None))
    return found


def _is_dev(environ: Environ, overrides: Mapping[str, str]) -> bool:
    try:
        return parse_boolean(overrides.get("SERCHA_DEV") or environ.get("SERCHA_DEV", "").strip())
    except ValueError:
        return False


def _find(
    setting: Setting,
    environ: Environ,
    role: Role,
    overrides: Mapping[str, str],
) -> _Given:
    name = setting.name
    if overrides.get(name, "").strip():
        return _Given(overrides[name].strip(), ValueSource.FLAG)
    text = environ.get(name, "").strip()
    file = environ.get(f"{name}_FILE", "").strip() if setting.is_secret else ""
    if text and file:
        raise ValueError(f"{name}: is given twice; set {name} or {name}_FILE, not both")
    if text:
        return _Given(text, ValueSource.ENVIRONMENT)
    if file:
        return _Given(_read_file(f"{name}_FILE", file), ValueSource.FILE)
    if setting.is_made_by_up and role is Role.UP:
        return _Given(None, ValueSource.GENERATED)
    default = setting.default
    if setting.compute_default:
        default = setting.compute_default(environ, role)
    return _Given(default, ValueSource.DEFAULT)


def _read_file(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{name}: {path!r} cannot be read: {reason}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{name}: {path!r} is longer than {FILE_BYTES_MAX} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {path!r} is not text in UTF-8") from None
    if not text or "\0" in text:
        raise ValueError(f"{name}: {path!r} {'holds a NUL byte' if text else 'is empty'}")
    return text


def _value(setting: Setting, given: _Given, role: Role, *, is_dev: bool) -> object:
    if given.text is None:
        if role in setting.required_in:
            also = f" (or {setting.name}_FILE)" if setting.is_secret else ""
            raise ValueError(
                f"{setting.name}{also}: is required for `{role}`; allowed: {setting.allowed}"
            )
        return () if setting.name in EMPTY_TUPLES else None
    label = setting.flag if given.source is ValueSource.FLAG and setting.flag else setting.name
    if not setting.is_path and not given.text.isprintable():
        # Also bytes that are no UTF-8, which arrive as surrogates.
        raise ValueError(f"{label}: holds characters that cannot be printed")
    if setting.name in {"JWT_SECRET", "MASTER_KEY", "SETUP_TOKEN"} and not is_dev:
        _refuse_weak(setting, given.text)
    try:
        return setting.parse(given.text)
    except ValueError as error:
        if setting.name == "MASTER_KEY" and is_dev:
            return derive_key(given.text)
        shown = "the value given" if setting.is_secret else _shown(given.text)
        raise ValueError(f"{label}: {shown} is not allowed; allowed: {error}") from None


def _refuse_weak(setting: Setting, text: str) -> None:
    if text.lower() in KNOWN_SECRETS:
        raise ValueError(
            f"{setting.name}: is a well-known default; allowed: {setting.allowed}, "
            "or SERCHA_DEV=1 on a machine for development"
        )
    if setting.name == "JWT_SECRET" and len(text.encode()) < JWT_SECRET_BYTES_MIN:
        raise ValueError(
            f"{setting.name}: is too short ({len(text.encode())} bytes); allowed: {setting.allowed}, "
            "or SERCHA_DEV=1 on a machine for development"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…")


def _cross_check(values: dict[str, Any], sources: Mapping[str, ValueSource]) -> list[str]:
    idle, most = values["db_max_idle_conns"], values["db_max_open_conns"]
    if idle > most:
        if sources["DB_MAX_IDLE_CONNS"] is not ValueSource.DEFAULT:
            allowed = BY_NAME["DB_MAX_IDLE_CONNS"].allowed
            return [f"DB_MAX_IDLE_CONNS: {idle} is not allowed; allowed: {allowed} ({most})"]
        values["db_max_idle_conns"] = most
    if values["search_engine"] == "vespa" and not values["vespa_container_url"]:
        return ["VESPA_CONTAINER_URL: is required with SEARCH_ENGINE=vespa"]
    return []
