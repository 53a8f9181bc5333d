"""Settings: what is accepted, what is refused and how that is said."""

import os
import typing
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.errors import SettingsError
from sercha.settings import (
    SETTINGS,
    UNSUPPORTED,
    Role,
    Settings,
    ValueSource,
    describe,
    load_settings,
    unknown_variables,
)
from sercha.settings.parsing import format_seconds, parse_duration

PASSWORD = "Hunter2-Hunter2"
GOOD = {
    "HOME": "/home/u",
    "DATABASE_URL": f"postgresql://sercha:{PASSWORD}@db:5432/sercha",
    "JWT_SECRET": "q8Zk" * 10,
    "MASTER_KEY": "0123456789abcdefABCDEF0123456789" + "a1b2c3d4" * 4,
}


def load(role: Role = Role.ALL, **environ: str) -> Settings:
    return load_settings({**GOOD, **environ}, role=role)


def refusal(role: Role = Role.ALL, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(role, **environ)
    return caught.value.message


def test_defaults_are_those_of_the_contract():
    loaded = load()

    assert loaded.run_mode is Role.ALL
    assert (loaded.host, loaded.port) == ("0.0.0.0", 8080)
    assert (loaded.db_max_open_conns, loaded.db_max_idle_conns) == (10, 3)
    assert loaded.db_conn_max_lifetime == 300.0
    assert loaded.search_engine == "embedded"
    assert (loaded.worker_concurrency, loaded.worker_dequeue_timeout) == (2, 5.0)
    assert loaded.shutdown_grace == 30.0
    assert loaded.localfs_allowed_roots == ()
    assert loaded.data_dir == Path("/home/u/.local/share/sercha")
    assert (loaded.log_level, loaded.log_format) == ("info", None)
    assert loaded.master_key is not None
    assert len(loaded.master_key) == 32


def test_up_listens_on_loopback_and_a_worker_on_nothing():
    assert load(Role.UP).host == "127.0.0.1"
    assert load(Role.WORKER).port is None
    assert load(Role.WORKER, PORT="9090").port == 9090


def test_data_dir_follows_xdg_and_ignores_a_relative_one():
    assert load(XDG_DATA_HOME="/data/").data_dir == Path("/data/sercha")
    assert load(XDG_DATA_HOME="data").data_dir == Path("/home/u/.local/share/sercha")


def test_empty_and_blank_variables_count_as_unset():
    assert load(PORT="", LOG_LEVEL="  ", REDIS_URL="").port == 8080


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RUN_MODE", "scheduler"),
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "8080.0"),
        ("PORT", "٨٠"),
        ("HOST", "localhost:8080"),
        ("HOST", "999.1.1.1"),
        ("HOST", "a b"),
        ("DB_MAX_OPEN_CONNS", "2"),
        ("DB_MAX_OPEN_CONNS", "10^9"),
        ("DB_MAX_IDLE_CONNS", "11"),
        ("DB_CONN_MAX_LIFETIME_SEC", "0"),
        ("DB_CONN_MAX_LIFETIME_SEC", "5 minutes"),
        ("SEARCH_ENGINE", "elastic"),
        ("VESPA_CONTAINER_URL", "vespa:8080"),
        ("VESPA_CONTAINER_URL", "http://vespa:8080/search"),
        ("VESPA_CLUSTER", "a/b"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_DEQUEUE_TIMEOUT", "0"),
        ("SHUTDOWN_GRACE", "-5s"),
        ("SHUTDOWN_GRACE", "2h"),
        ("SHUTDOWN_GRACE", "nan"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com"),
        ("CORS_ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("CORS_ALLOWED_ORIGINS", "*,https://app.example.com"),
        ("LOCALFS_ALLOWED_ROOTS", "docs"),
        ("LOCALFS_ALLOWED_ROOTS", "/srv/a,/srv/b"),
        ("DATA_DIR", "data"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("SERCHA_DEV", "yes"),
        ("SERCHA_URL", "localhost:8080"),
        ("SERCHA_URL", "ftp://localhost"),
        ("SERCHA_URL", "http://u:p@localhost"),
        ("SERCHA_URL", "http://localhost:99999"),
        ("LOG_LEVEL", "in\x1bfo"),
        ("HOST", "caf\udce9"),
    ],
)
def test_wrong_value_is_refused_naming_variable_value_and_what_is_allowed(name: str, text: str):
    message = refusal(**{name: text})

    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert "allowed" in message or "cannot be printed" in message
    assert "allowed: " not in message or text in message or not text.isprintable()


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_setting_without_its_feature_is_refused_rather_than_ignored(name: str):
    assert refusal(**{name: "x"}) == f"{name}: is not supported by this version; leave it unset"


def test_client_commands_do_not_mind_settings_of_servers_elsewhere():
    assert load_settings({"REDIS_URL": "redis://cache"}, role=Role.CLIENT).role is Role.CLIENT


@pytest.mark.parametrize(
    ("role", "missing"),
    [
        (Role.API, {"DATABASE_URL", "JWT_SECRET", "MASTER_KEY"}),
        (Role.WORKER, {"DATABASE_URL", "MASTER_KEY"}),
        (Role.ALL, {"DATABASE_URL", "JWT_SECRET", "MASTER_KEY"}),
        (Role.MIGRATE, {"DATABASE_URL"}),
        (Role.UP, set[str]()),
        (Role.CLIENT, set[str]()),
    ],
)
def test_each_role_names_all_that_it_lacks(role: Role, missing: set[str]):
    environ = {"HOME": "/home/u"}
    if not missing:
        assert load_settings(environ, role=role).database_url is None
        return

    with pytest.raises(SettingsError) as caught:
        load_settings(environ, role=role)

    lines = caught.value.message.splitlines()
    assert {line.split()[0].rstrip(":") for line in lines} == missing
    assert all("is required" in line for line in lines)


def test_several_mistakes_are_reported_together():
    message = refusal(PORT="x", LOG_LEVEL="y", BASE_URL="http://z", JWT_SECRET="secret")

    names = [line.split(":")[0] for line in message.splitlines()]
    assert names == ["BASE_URL", "PORT", "JWT_SECRET", "LOG_LEVEL"]


def test_flag_wins_over_variable_and_its_error_names_the_flag():
    assert load_settings({**GOOD, "PORT": "1"}, role=Role.ALL, overrides={"PORT": "2"}).port == 2
    with pytest.raises(SettingsError, match=r"^--port: '70000' is not allowed"):
        load_settings(GOOD, role=Role.ALL, overrides={"PORT": "70000"})


def test_up_makes_what_is_not_given_and_keeps_what_is():
    loaded = load_settings({"HOME": "/h", "JWT_SECRET": GOOD["JWT_SECRET"]}, role=Role.UP)

    assert loaded.jwt_secret == GOOD["JWT_SECRET"]
    assert loaded.sources["JWT_SECRET"] is ValueSource.ENVIRONMENT
    assert loaded.sources["MASTER_KEY"] is ValueSource.GENERATED
    assert loaded.sources["DATABASE_URL"] is ValueSource.GENERATED


def test_idle_default_shrinks_with_the_pool():
    assert load(DB_MAX_OPEN_CONNS="3").db_max_idle_conns == 3


def test_lists_are_split_trimmed_and_deduplicated():
    loaded = load(
        CORS_ALLOWED_ORIGINS="https://A.example.com, http://b:8080/",
        LOCALFS_ALLOWED_ROOTS="/srv/a:/srv/b:/srv/a:",
        TRUSTED_PROXIES="10.0.0.5, fd00::/8",
    )

    assert loaded.cors_allowed_origins == ("https://a.example.com", "http://b:8080")
    assert loaded.localfs_allowed_roots == (Path("/srv/a"), Path("/srv/b"))
    assert loaded.trusted_proxies == (ip_network("10.0.0.5"), ip_network("fd00::/8"))


def test_an_address_of_vespa_chooses_the_engine_and_the_engine_needs_one():
    loaded = load(VESPA_CONTAINER_URL="http://v1:8080, http://v2:8080/")

    assert loaded.search_engine == "vespa"
    assert loaded.vespa_container_url == ("http://v1:8080", "http://v2:8080")
    assert load(VESPA_CONTAINER_URL="http://v1:8080", SEARCH_ENGINE="embedded").search_engine == (
        "embedded"
    )
    assert refusal(SEARCH_ENGINE="vespa").startswith("VESPA_CONTAINER_URL: is required")


def test_root_may_have_a_name_that_is_no_utf8():
    assert load(LOCALFS_ALLOWED_ROOTS="/srv/caf\udce9").localfs_allowed_roots == (
        Path(os.fsdecode(b"/srv/caf\xe9")),
    )


def test_description_has_every_setting_with_value_source_and_default():
    rows = {row.name: row for row in describe(load(SHUTDOWN_GRACE="90", SERCHA_DEV="0"))}

    assert rows.keys() == {setting.name for setting in SETTINGS}
    assert (rows["SHUTDOWN_GRACE"].value, rows["SHUTDOWN_GRACE"].source) == ("90s", "environment")
    assert (rows["PORT"].value, rows["PORT"].source) == ("8080", "default")
    assert rows["JWT_SECRET"].value == "***"
    assert rows["SETUP_TOKEN"].value is None
    assert rows["SERCHA_DEV"].value == "false"


def test_every_setting_has_a_field_and_every_field_a_setting():
    fields = set(typing.get_type_hints(Settings)) - {"role", "sources"}

    assert fields == {setting.field for setting in SETTINGS}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DB_MAX_OPEN_CONN", "DB_MAX_OPEN_CONNS"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("JWT_SECRET_FIEL", "JWT_SECRET_FILE"),
        ("SERCHA_PORT", "PORT"),
        ("SERCHA_COLOUR", None),
    ],
)
def test_variable_that_looks_like_a_setting_is_found_with_the_nearest_name(
    name: str, nearest: str | None
):
    found = unknown_variables({name: "x", "PATH": "/bin"})

    assert [(each.name, each.nearest) for each in found] == [(name, nearest)]


def test_variables_of_others_are_left_alone():
    others = ("HOSTNAME", "HOSTS", "PORTS", "LOGNAME", "XDG_DATA_DIRS", "SERCHA_TEST_SEED", "LANG")

    assert unknown_variables(dict.fromkeys(others, "x") | GOOD | {"JWT_SECRET_FILE": "x"}) == []


@given(st.integers(0, 10**8), st.sampled_from(["", "ms", "s", "m", "h"]))
def test_duration_of_any_number_and_unit_is_read(number: int, unit: str):
    factor = {"": 1000, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[unit]

    assert parse_duration(f"{number}{unit}") * 1000 == pytest.approx(number * factor)


@given(st.integers(0, 10**9))
def test_duration_that_was_written_is_read_back(milliseconds: int):
    seconds = milliseconds / 1000

    assert parse_duration(format_seconds(seconds)) == pytest.approx(seconds)


@given(st.text(max_size=12))
def test_no_text_but_a_duration_is_one(text: str):
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    else:
        assert seconds >= 0
        assert text[0].isascii()
        assert text[0].isdigit()


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from([setting.name for setting in SETTINGS]),
        st.text(st.characters(blacklist_characters="\0"), max_size=30),
        max_size=5,
    )
)
def test_any_environment_gives_settings_or_a_settings_error(environ: dict[str, str]):
    with suppress(SettingsError):
        load_settings({**GOOD, **environ}, role=Role.ALL)
