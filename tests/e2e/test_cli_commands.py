"""The commands of a deployment with its own PostgreSQL: migrate, set up, add, search, look after, stop."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import free_port
from tests.support.sercha import Sercha, clean_up, command, environment, run

PASSWORD = "correct horse battery"


@pytest.fixture
def settings(empty_postgres_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {
        "DATABASE_URL": empty_postgres_url,
        "JWT_SECRET": "q8Zk" * 10,
        "MASTER_KEY": "a1" * 32,
        "DATA_DIR": str(tmp_path / "index copy"),
        "LOCALFS_ALLOWED_ROOTS": str(tmp_path / "notes"),
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "SETUP_TOKEN": "let-me-in",
    }
    clean_up(tmp_path)


def sercha_command(
    env: dict[str, str], *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_migrate_check_tells_what_is_missing_and_migrate_applies_it(
    settings: dict[str, str], tmp_path: Path
) -> None:
    env = environment(tmp_path, **settings)

    before = run(command("migrate", "--check", "--json"), env)
    applied = run(command("migrate", "--json"), env)
    after = run(command("migrate", "--check"), env)

    assert (before.returncode, applied.returncode, after.returncode) == (1, 0, 0), applied.stderr
    assert json.loads(before.stdout)["pending"] == json.loads(applied.stdout)["applied"] != []


def test_a_role_refuses_a_database_without_its_schema(
    settings: dict[str, str], tmp_path: Path
) -> None:
    refused = run(command("api"), environment(tmp_path, **settings))

    assert refused.returncode == 1
    assert "sercha: error: " in refused.stderr
    assert "run `sercha migrate`" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_deployment_is_run_by_commands_alone(settings: dict[str, str], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nOolong is half oxidised.\n")
    (notes / "noise.bin").write_bytes(bytes(range(256)) * 8)
    (notes / "long.txt").write_text("gruel " * 700_000)
    env = environment(tmp_path, **settings)
    assert run(command("migrate"), env).returncode == 0
    sercha = Sercha(tmp_path, "all", **settings).wait_ready()

    arguments = ["setup", "--url", sercha.url, "--email", "ada@example.org", "--password-stdin"]
    refused = sercha_command({**env, "SETUP_TOKEN": ""}, *arguments, stdin=PASSWORD)
    assert (refused.returncode, "token" in refused.stderr) == (1, True)
    done = sercha_command(env, *arguments, stdin=PASSWORD)
    assert "logged in" in done.stdout, done.stderr

    added = sercha.cli("source", "add", str(notes), "--name", "my notes", "--wait")
    assert "2 added" in added.stderr
    found = sercha.cli("search", "oolong", "--source", "my notes")
    assert "Tea" in found.stdout
    assert "\x1b" not in found.stdout
    issues = sercha.cli("source", "issues", "my notes").stdout
    assert "noise.bin\tskipped\tbinary" in issues
    assert "long.txt\tskipped\ttruncated\tOnly the first 4000000 of 4200000 characters" in issues
    (long,) = json.loads(sercha.cli("search", "gruel", "--json").stdout)["results"]
    assert long["document"]["metadata"]["truncated"] == "4000000 of 4200000 characters"
    assert "2 documents" in sercha.cli("status").stdout
    assert "2 checked, 0 missing, 0 stale, 0 ghost" in sercha.cli("index", "verify").stdout
    assert sercha.cli("index", "rebuild").returncode == 0
    assert sercha.cli("healthcheck").stdout == "healthy\n"

    sercha.cli("source", "pause", "my notes")
    assert sercha.cli("sync", "my notes", check=False).returncode == 1
    sercha.cli("source", "resume", "my notes")
    tasks = json.loads(sercha.cli("tasks", "list", "--json").stdout)["tasks"]
    assert tasks[0]["id"] in sercha.cli("tasks", "show", tasks[0]["id"]).stdout

    bob = json.loads(sercha.cli("user", "add", "bob@example.org", "--json").stdout)
    login = ["login", "--url", sercha.url, "--email", "bob@example.org", "--password-stdin"]
    assert sercha_command(env, *login, stdin=bob["password"]).returncode == 0
    forbidden = sercha.cli("user", "list", check=False)
    assert (forbidden.returncode, forbidden.stdout) == (1, "")
    assert "healthy" in sercha.cli("status").stdout
    sercha.cli("logout")
    assert "nobody is logged in" in sercha.cli("search", "x", check=False).stderr

    findings = {each["name"]: each for each in json.loads(sercha.cli("doctor", "--json").stdout)}
    assert all(
        findings[name]["verdict"] == "ok" for name in ("database", "schema", "port", "clock")
    )
    assert sercha.stop() == 0
    assert PASSWORD not in sercha.output
