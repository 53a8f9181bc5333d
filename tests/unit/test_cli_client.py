"""Client commands against a peer that speaks the API's HTTP: tokens, proxies, and hostile answers."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sercha.cli.profile import Profile, load_profile, save_profile
from tests.support.peer import Answer, Peer, running_peer
from tests.support.postgres import free_port
from tests.unit.test_cli_exits import Cli, assert_refused

PAGE = {
    "query": "x",
    "mode": "text",
    "results": [],
    "total_count": 0,
    "took": 1_000_000,
    "degraded": False,
    "coverage": 100,
}


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as peer:
        yield peer


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def profile_path(cli: Cli) -> Path:
    return cli.home / ".config" / "sercha" / "profile.json"


def demand(token: str, content: object) -> Callable[[str, Any], Answer]:
    """Answer with *content* whoever has the token, and 401 everybody else."""
    refusal = (401, {"error": "the token has expired", "code": "token-expired"})
    return lambda given, _: (200, content) if given == token else refusal


def test_stale_token_is_refreshed_once_and_the_new_ones_are_kept(cli: Cli, peer: Peer):
    save_profile(profile_path(cli), Profile(peer.url, token="stale", refresh_token="r1"))
    fresh = {"token": "fresh", "refresh_token": "r2"}
    peer.on["POST /auth/refresh"] = lambda _, body: (
        (200, fresh) if body == {"refresh_token": "r1"} else (401, {"error": "used"})
    )
    peer.on["POST /search"] = demand("fresh", PAGE)

    done = cli("search", "x")

    assert done.returncode == 0, done.stderr
    kept = load_profile(profile_path(cli))
    assert kept is not None
    assert (kept.token, kept.refresh_token) == ("fresh", "r2")
    assert stat.S_IMODE(profile_path(cli).stat().st_mode) == 0o600
    assert stat.S_IMODE(profile_path(cli).parent.stat().st_mode) == 0o700


def test_two_commands_at_once_use_the_refresh_token_once(cli: Cli, peer: Peer):
    save_profile(profile_path(cli), Profile(peer.url, token="stale", refresh_token="r1"))
    meeting = threading.Barrier(2, timeout=30)
    refreshes: list[str] = []

    def search(token: str, _: object) -> Answer:
        if token == "stale":
            meeting.wait()
            return 401, {"error": "the token has expired"}
        return 200, PAGE

    def refresh(_: str, body: Any) -> Answer:
        refreshes.append(body["refresh_token"])
        return 200, {"token": "fresh", "refresh_token": "r2"}

    peer.on |= {"POST /search": search, "POST /auth/refresh": refresh}
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: done.append(cli("search", "x"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.returncode for each in done] == [0, 0]
    assert refreshes == ["r1"]


def test_refused_refresh_asks_for_a_log_in(cli: Cli, peer: Peer):
    save_profile(profile_path(cli), Profile(peer.url, token="stale", refresh_token="used"))
    peer.on["POST /auth/refresh"] = lambda *_: (401, {"error": "used", "code": "bad-refresh-token"})
    peer.on["POST /search"] = demand("fresh", PAGE)

    assert_refused(cli("search", "x"), 1, "sercha login")


def test_tokens_of_the_profile_never_go_to_another_address(cli: Cli, peer: Peer):
    save_profile(profile_path(cli), Profile("http://127.0.0.1:1", token="mine", refresh_token="r"))
    peer.on["POST /search"] = demand("mine", PAGE)

    assert_refused(cli("search", "x", SERCHA_URL=peer.url), 1, "nobody is logged in")
    assert {token for _, token in peer.seen} == {""}


def test_given_token_is_used_as_it_is_and_past_the_proxy(cli: Cli, peer: Peer):
    peer.on["POST /search"] = demand("given", PAGE)
    dead = f"http://127.0.0.1:{free_port()}"

    done = cli(
        "search", "x", SERCHA_URL=peer.url, SERCHA_TOKEN="given", HTTP_PROXY=dead, ALL_PROXY=dead
    )

    assert done.returncode == 0, done.stderr
    assert "nothing found" in done.stdout


@pytest.mark.parametrize("content", [b"<html>hello</html>", b"\xff\xfe", b"{"])
def test_answer_that_is_no_json_is_named_as_such(cli: Cli, peer: Peer, content: bytes):
    peer.on["POST /search"] = lambda *_: (200, content)

    assert_refused(cli("search", "x", SERCHA_URL=peer.url), 1, "not Sercha's")


def test_sentence_of_the_server_is_shown_without_what_steers_a_terminal(cli: Cli, peer: Peer):
    peer.on["POST /search"] = lambda *_: (400, {"error": "query: \x1b[2Jbad\x07", "code": "x"})
    done = cli("search", "x", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert_refused(done, 1, "query: ")
    assert "\x1b" not in done.stderr


def test_results_are_printed_with_paths_and_without_tags_or_control_characters(
    cli: Cli, peer: Peer
):
    result = {
        "document": {"title": "A\x1b[31m", "path": "/srv/a\nb"},
        "chunk": {},
        "score": 1.0,
        "highlights": ["a &lt;b&gt; <mark>word</mark>"],
    }
    peer.on["POST /search"] = lambda *_: (200, {**PAGE, "results": [result], "total_count": 7})
    done = cli("search", "word", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == 0, done.stderr
    assert "a <b> word" in done.stdout
    assert "/srv/a b" in done.stdout
    assert "1 to 1 of 7" in done.stdout
    assert "\x1b" not in done.stdout


def test_reading_is_tried_again_when_the_server_will_be_back(cli: Cli, peer: Peer):
    answers: list[Answer] = [(503, {"error": "stopping"}, {"Retry-After": "0"}), (200, [])]
    peer.on["GET /users"] = lambda *_: answers.pop(0)

    assert cli("user", "list", SERCHA_URL=peer.url, SERCHA_TOKEN="t").returncode == 0
    assert answers == []


def test_writing_is_never_tried_again_by_itself(cli: Cli, peer: Peer):
    peer.on["POST /admin/index/rebuild"] = lambda *_: (
        503,
        {"error": "stopping"},
        {"Retry-After": "0"},
    )

    assert_refused(cli("index", "rebuild", SERCHA_URL=peer.url, SERCHA_TOKEN="t"), 1, "stopping")
    assert len(peer.seen) == 1


@pytest.mark.parametrize(("stale", "status"), [(0, 0), (2, 1)])
def test_verify_counts_and_fails_on_differences(cli: Cli, peer: Peer, stale: int, status: int):
    report = {"checked": 9, "missing": 0, "stale": stale, "ghost": 0, "examples": ["stale 4"]}
    peer.on["POST /admin/index/verify"] = lambda *_: (200, report)
    done = cli("index", "verify", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == status
    assert f"9 checked, 0 missing, {stale} stale, 0 ghost" in done.stdout


def start(cli: Cli, peer: Peer, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sercha", *arguments],
        env=cli.environ(SERCHA_URL=peer.url, SERCHA_TOKEN="t"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that run in the background of a shell have it ignored, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_ends_a_client_command_quietly_with_130(cli: Cli, peer: Peer):
    def hang(*_: object) -> Answer:
        peer.ending.wait(30)
        return 200, PAGE

    peer.on["POST /search"] = hang
    with start(cli, peer, "search", "x") as process:
        assert peer.arrived.wait(30)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)

    assert (process.returncode, out, error) == (130, b"", b"")


@pytest.mark.parametrize(
    "arguments", [("search", "x"), ("search", "x", "--json"), ("user", "list")]
)
def test_reader_that_goes_away_is_no_error(cli: Cli, peer: Peer, arguments: tuple[str, ...]):
    result = {
        "document": {"title": "t" * 2000, "path": "p"},
        "highlights": ["w" * 2000],
    }
    peer.on["POST /search"] = lambda *_: (200, {**PAGE, "results": [result] * 100})
    user = {"email": "e" * 500, "name": "n", "role": "admin", "id": "i"}
    peer.on["GET /users"] = lambda *_: (200, [user] * 1000)
    with start(cli, peer, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.wait(30)

    assert (process.returncode, error) == (141, b"")


def test_password_comes_from_stdin_and_the_log_in_is_kept(cli: Cli, peer: Peer):
    asked: list[object] = []

    def login(_: str, body: object) -> Answer:
        asked.append(body)
        return 200, {"token": "t1", "refresh_token": "r1"}

    peer.on["POST /auth/login"] = login
    arguments = ["login", "--url", peer.url + "/", "--email", "a@b.c", "--password-stdin"]
    done = cli(*arguments, stdin="pass word \n")

    assert done.returncode == 0, done.stderr
    assert asked == [{"email": "a@b.c", "password": "pass word "}]
    assert load_profile(profile_path(cli)) == Profile(peer.url, "a@b.c", "t1", "r1")
    assert "pass word" not in done.stdout + done.stderr


def test_failed_write_of_the_profile_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "sercha" / "profile.json"
    save_profile(path, Profile("http://old"))

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save_profile(path, Profile("http://new"))

    assert load_profile(path) == Profile("http://old")
    assert [each.name for each in path.parent.iterdir()] == ["profile.json"]
