"""The hand-written reference pages list exactly what the code has."""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum

import pytest

from sercha.adapters.embedded_servers.folder import HARMLESS
from sercha.adapters.postgres.migrate import known_migrations
from sercha.cli.follow import Followed, SyncEnd
from sercha.cli.sync import summary
from sercha.domain.source import SyncStatus
from sercha.domain.task import TaskKind, TaskState
from sercha.embedded import PASSWORD_FILE, ROOTS_FILE, SECRETS_FILE
from sercha.roles.api import ApiOptions, ApiServices, create_app
from sercha.roles.api.operations import operation_of
from sercha.roles.api.shapes import IndexState
from sercha.services.attempt import Ending
from sercha.telemetry.health import Phase
from tests.support.docs import DOCS, ROOT, code, rows, section

REFERENCE = DOCS / "reference"


def operations() -> dict[str, str]:
    """Return the role of each operation of the API, by method and path."""
    nothing = {field.name: None for field in dataclasses.fields(ApiServices)}
    services = ApiServices(**{**nothing, "options": ApiOptions(), "version": "0"})  # type: ignore[arg-type]
    app = create_app(services)
    found: dict[str, str] = {}
    for rule in app.url_map.iter_rules():
        declared = operation_of(app.view_functions[rule.endpoint])
        path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        role = "-" if declared is None or declared.role is None else str(declared.role)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            found[f"{method} {path}"] = role
    return found


def test_the_api_page_lists_every_operation_with_its_role() -> None:
    listed = rows(section(REFERENCE / "http-api.md", "Operations"))

    assert {code(cells[0]): cells[1] for cells in listed} == operations()
    assert len(listed) == len({cells[0] for cells in listed})


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("Kinds", TaskKind),
        ("How an attempt ends", Ending),
        ("State of a sync", SyncStatus),
        ("Phases of a process", Phase),
    ],
)
def test_every_value_of_an_enum_is_explained(heading: str, values: type[StrEnum]) -> None:
    listed = rows(section(REFERENCE / "task-states.md", heading))

    assert [code(cells[0]) for cells in listed] == [str(value) for value in values]


def test_every_field_of_an_index_state_is_explained() -> None:
    listed = [
        code(cells[0])
        for cells in rows(section(REFERENCE / "http-api.md", "How an index is doing"))
    ]

    assert listed == list(IndexState.model_fields)


def test_every_field_of_a_sync_that_was_waited_for_is_explained() -> None:
    end = SyncEnd(Followed("s", "n", "t"), is_done=True, message="", state={})
    listed = {code(cells[0]) for cells in rows(section(REFERENCE / "cli.md", "Waiting for a sync"))}

    assert listed == summary(end).keys()


def test_every_task_state_is_explained_and_drawn() -> None:
    text = section(REFERENCE / "task-states.md", "Task states")
    listed = [code(cells[0]) for cells in rows(text[: text.index("## Kinds")])]
    picture = text[: text.index("| State |")]

    assert listed == [str(state) for state in TaskState]
    assert [state for state in TaskState if str(state) not in picture] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_word_used_as_a_state_is_one(page) -> None:
    known = {str(value) for values in (TaskState, SyncStatus, Phase) for value in values}
    used = re.findall(r"\bstates? `([^`]+)`", page.read_text("utf-8"))

    assert [word for word in used if word not in known] == []


def test_every_table_and_no_other_is_in_the_schema_page() -> None:
    sql = "\n".join(migration.sql for migration in known_migrations())
    tables = set(re.findall(r"^CREATE TABLE (\w+)", sql, re.MULTILINE)) | {"schema_migration"}
    tables -= set(re.findall(r"^DROP TABLE (\w+)", sql, re.MULTILINE))
    text = (REFERENCE / "database-schema.md").read_text("utf-8")
    before = text[: text.index("## Columns")]

    assert {code(cells[0]) for cells in rows(before)} == tables


def test_columns_named_on_the_schema_page_exist() -> None:
    sql = "\n".join(migration.sql for migration in known_migrations())
    for cells in rows(section(REFERENCE / "database-schema.md", "Columns that carry a promise")):
        table, column = code(cells[0]).split(".")
        body = re.search(rf"^CREATE TABLE {table} \((.*?)^\);", sql, re.MULTILINE | re.DOTALL)
        assert body is not None, table
        assert re.search(rf"^    {column} ", body[1], re.MULTILINE), cells[0]


def test_the_data_folder_page_names_every_file_that_the_code_makes() -> None:
    listed = {
        code(cells[0]).rstrip("/")
        for cells in rows(section(REFERENCE / "data-folder.md", "Under `sercha up`"))
    }
    made = {PASSWORD_FILE, SECRETS_FILE, ROOTS_FILE, "lock", "VERSION", "index", "postgres"}
    made |= {"redis", "redis.log", "redis.broken"}
    for path in (ROOT / "sercha" / "adapters" / "embedded_postgres").glob("*.py"):
        made |= set(re.findall(r'/ "(postgres\.[a-z]+)"', path.read_text("utf-8")))

    assert "lock" in HARMLESS
    assert made <= listed
    assert listed - made == set(), "documented, but nobody makes it"
