"""The real command in a process of its own: exit statuses, and one line instead of a traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from sercha.cli.run import run_announced, until_signal
from tests.support.postgres import free_port

ROOT = Path(__file__).parents[2]
SECRET = "q8Zk" * 10


class Cli:
    """Runs `sercha` with a home of its own and no setting but those given."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def environ(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            **variables,
        }

    def __call__(
        self, *arguments: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sercha", *arguments],
            env=self.environ(**variables),
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def assert_refused(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert "sercha: error: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], ["No such command 'bogus'"]),
        (["search"], ["Missing argument"]),
        (["search", "x", "--limit", "many"], ["--limit"]),
        (["search", "x", "--limit", "-1"], ["--limit", "-1 is outside 1 to 100"]),
        (["search", "x", "--limit", "1000000000"], ["--limit", "is outside 1 to 100"]),
        (["search", "x", "--offset", "-1"], ["--offset", "-1 is outside 0 to 9999"]),
        (["search", "x", "--offset", "9991"], ["--offset: 9991 is outside 0 to 9990"]),
        (["source", "issues", "docs", "--limit", "0"], ["--limit", "is outside 1 to 100"]),
        (["tasks", "list", "--limit", "101"], ["--limit", "is outside 1 to 100"]),
        (["search", "x", "--nope"], ["--nope"]),
        (["up", "--port", "70000"], ["--port: '70000' is not allowed", "0 to 65535"]),
        (["up", "--host", "a:1"], ["--host: 'a:1' is not allowed"]),
        (["up", "--index", "missing-folder"], ["--index", "missing-folder"]),
        (["api"], ["DATABASE_URL", "JWT_SECRET", "MASTER_KEY", "is required for `api`"]),
        (["worker"], ["DATABASE_URL", "MASTER_KEY"]),
        (["migrate"], ["DATABASE_URL"]),
        (["sync"], ["name of a source, or --all"]),
        (["sync", "docs", "--all"], ["name of a source, or --all"]),
        (["source", "remove", "docs"], ["--yes"]),
        (["tasks", "list", "--state", "odd"], ["queued"]),
        (["login", "--email", "a@b.c", "--url", "localhost"], ["--url"]),
        (["login", "--email", "a@b.c", "--url", "http://localhost:1"], ["--password-stdin"]),
    ],
)
def test_wrong_use_is_status_2_with_the_reason(cli: Cli, arguments: list[str], words: list[str]):
    done = cli(*arguments)

    assert_refused(done, 2, *words)
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["source"], ["index"], ["tasks"], ["user"]])
def test_missing_command_is_status_2_with_the_help(cli: Cli, arguments: list[str]):
    done = cli(*arguments)

    assert done.returncode == 2
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [("PORT", "eighty"), ("REDIS_URL", "http://cache"), ("SHUTDOWN_GRACE", "soon")],
)
def test_wrong_setting_is_status_2_naming_the_variable(cli: Cli, name: str, text: str):
    assert_refused(cli("up", **{name: text}), 2, f"{name}: ")


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["--help"], ["up", "--help"]])
def test_help_and_version_need_nothing_and_are_status_0(cli: Cli, arguments: list[str]):
    done = cli(*arguments)

    assert done.returncode == 0
    assert "sercha" in done.stdout
    assert done.stderr == ""


def test_config_needs_no_database_and_shows_no_secret(cli: Cli):
    url = "postgresql://u:Hunter2-Hunter2@nowhere.invalid/x"
    done = cli("config", "--json", JWT_SECRET=SECRET, DATABASE_URL=url, DB_MAX_OPEN_CONN="3")

    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert rows["DATABASE_URL"]["value"] == "postgresql://u:***@nowhere.invalid/x"
    assert rows["JWT_SECRET"]["value"] == "***"
    assert rows["PORT"]["source"] == "default"
    assert (
        "DB_MAX_OPEN_CONN: there is no such setting; did you mean DB_MAX_OPEN_CONNS?" in done.stderr
    )
    assert "Hunter2" not in done.stdout + done.stderr


def test_config_in_a_pipe_is_lines_with_tabs(cli: Cli):
    lines = cli("config").stdout.splitlines()

    assert all(line.count("\t") == 3 for line in lines)


def test_client_without_profile_says_what_to_do(cli: Cli):
    assert_refused(cli("search", "x"), 1, "sercha up", "SERCHA_URL")


def test_client_without_server_asks_whether_one_runs(cli: Cli):
    url = f"http://127.0.0.1:{free_port()}"

    assert_refused(
        cli("search", "x", SERCHA_URL=url), 1, f"nothing answers at {url}: is `sercha up` running?"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 3}', '{"email": "a"}'])
def test_damaged_profile_is_status_1_naming_it(cli: Cli, content: str):
    path = cli.home / ".config" / "sercha" / "profile.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)

    assert_refused(cli("status"), 1, str(path), "is damaged")


def test_healthcheck_without_server_is_status_1_and_without_port_2(cli: Cli):
    assert_refused(cli("healthcheck", PORT=str(free_port())), 1, "nothing answers")
    assert_refused(cli("healthcheck", PORT="0"), 2, "PORT")


def test_migrate_without_server_is_status_1_without_the_password(cli: Cli):
    url = f"postgresql://u:Hunter2-Hunter2@127.0.0.1:{free_port()}/x"
    done = cli("migrate", DATABASE_URL=url)

    assert_refused(done, 1)
    assert "Hunter2" not in done.stderr


def test_doctor_tells_what_fails_and_how_to_mend_it(cli: Cli):
    url = f"postgresql://u:Hunter2-Hunter2@127.0.0.1:{free_port()}/x"
    missing = cli.home / "missing"
    done = cli(
        "doctor",
        "--json",
        DATABASE_URL=url,
        LOCALFS_ALLOWED_ROOTS=f"{cli.home}:{missing}",
        PORT=str(free_port()),
        SERCHA_COLOUR="red",
    )

    findings = json.loads(done.stdout)
    failed = {each["name"]: each for each in findings if each["verdict"] == "fail"}
    assert done.returncode == 1
    assert failed.keys() == {"database", "allowed root"}
    assert str(missing) in failed["allowed root"]["message"]
    assert all(each["mend"] for each in failed.values())
    assert any("SERCHA_COLOUR" in each["message"] for each in findings)
    assert "Hunter2" not in done.stdout


def test_doctor_of_a_fresh_machine_finds_nothing_that_fails(cli: Cli):
    done = cli("doctor", PORT=str(free_port()))

    assert done.returncode == 0, done.stdout
    assert "ok   port" in done.stdout


async def test_first_signal_drains_and_the_block_ends_by_itself():
    async with until_signal() as drain:
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(5):
            await drain.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_second_signal_cancels_the_block(number: signal.Signals):
    async def work() -> None:
        async with until_signal() as drain:
            signal.raise_signal(number)
            await drain.wait()
            signal.raise_signal(number)
            await trio.sleep_forever()

    with trio.fail_after(5):
        with pytest.raises(KeyboardInterrupt):
            await work()


async def test_signals_are_the_callers_again_after_the_block():
    before = signal.getsignal(signal.SIGTERM)
    async with until_signal():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


async def test_announcement_has_the_value_and_ends_with_the_roles():
    heard: list[str] = []
    announced = trio.Event()

    async def roles(*, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("usable")
        await announced.wait()

    async def announce(value: str) -> None:
        heard.append(value)
        announced.set()
        await trio.sleep_forever()

    with trio.fail_after(5):
        await run_announced(roles, announce)

    assert heard == ["usable"]


async def test_roles_that_end_before_they_are_usable_are_never_announced():
    async def roles(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.lowlevel.checkpoint()

    async def announce(_: str) -> None:
        raise AssertionError("nothing is usable")

    with trio.fail_after(5):
        await run_announced(roles, announce)
