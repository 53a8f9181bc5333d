"""Logs: one JSON object for each event, no secrets, libraries bridged; and output that is safe to print."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sercha.cli.show import highlighted, safe
from sercha.telemetry.logs import configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_one_line_of_json_with_time_level_event_and_role_first(stream: io.StringIO):
    configure_logs(role="api", stream=stream)
    structlog.get_logger().info("task.claimed", task_id="t\n1")

    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "role", "task_id"]
    assert (line["level"], line["event"], line["role"]) == ("info", "task.claimed", "api")
    assert str(line["timestamp"]).endswith("Z")


def test_level_filters_and_may_be_changed(stream: io.StringIO):
    logger = structlog.get_logger()
    configure_logs(role="api", level="warning", stream=stream)
    logger.info("quiet.kept")
    configure_logs(role="api", level="debug", stream=stream)
    logger.debug("detail.told")

    assert [line["event"] for line in lines(stream)] == ["detail.told"]


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "jwt_secret",
        "refresh_token",
        "Authorization",
        "master_key",
        "database_url",
        "redis_url",
    ],
)
def test_value_of_a_secret_key_is_masked(stream: io.StringIO, key: str):
    configure_logs(role="api", stream=stream)
    structlog.get_logger().warning("thing.happened", **{key: "Hunter2", "tokens_used": 3})

    (line,) = lines(stream)
    assert line[key] == "***"
    assert line["tokens_used"] == 3


def test_password_inside_an_address_is_masked_also_in_a_traceback(stream: io.StringIO):
    configure_logs(role="api", stream=stream)
    try:
        int("postgresql://u:Hunter2@db/x is away")
    except ValueError:
        structlog.get_logger().exception("thing.failed", error="http://u:Hunter2@h/")

    (line,) = lines(stream)
    assert line["error"] == "http://u:***@h/"
    assert "postgresql://u:***@db/x is away" in str(line["exception"])
    assert "Hunter2" not in stream.getvalue()


def test_libraries_are_heard_from_warning_on_in_the_same_form(stream: io.StringIO):
    configure_logs(role="worker", level="debug", stream=stream)
    logging.getLogger("hypercorn.error").info("quiet")
    logging.getLogger("psycopg").warning("lost a connection to %s", "db")

    (line,) = lines(stream)
    assert line["event"] == "lost a connection to db"
    assert (line["level"], line["role"]) == ("warning", "worker")


def test_console_form_is_text_without_colours_where_nobody_sees_them(stream: io.StringIO):
    configure_logs(role="up", log_format="console", stream=stream)
    structlog.get_logger().info("process.ready")

    assert "process.ready" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_text_of_others_cannot_steer_the_terminal():
    assert safe("a\x1b[2Jb\rc\nd\u202ee\udcff") == "a\ufffd[2Jb\ufffdc d\ufffde\ufffd"


def test_only_marks_become_bold():
    text = highlighted("a &lt;mark&gt; <mark>b</mark> c<mark>d</mark>")

    assert text.plain == "a <mark> b cd"
    assert [text.plain[span.start : span.end] for span in text.spans] == ["b", "d"]
