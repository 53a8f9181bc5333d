"""What may go wrong in the first hour on somebody's own machine, with `sercha up` as people use it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.sercha import Sercha, clean_up, command, processes_of, run, wait_gone

OPEN_FILES = 256
FILES = 600
NFC, NFD = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))


def token_of(sercha: Sercha) -> str:
    """Wait for the log-in that `sercha up` makes."""
    sercha.wait_line("^search:")
    return json.loads((sercha.home / "config/sercha/profile.json").read_text())["token"]


def search(sercha: Sercha, query: str) -> list[str]:
    status, found = sercha.request("POST", "/search", {"query": query}, token=token_of(sercha))
    assert status == 200, found
    return [Path(result["document"]["path"]).name for result in found["results"]]


def no_answer() -> str:
    """Return the address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def sercha_doctor(sercha: Sercha, **variables: str) -> list[dict[str, Any]]:
    """Return what `sercha doctor` finds."""
    env = {**sercha.env, **variables}
    return json.loads(run(command("doctor", "--json"), env).stdout)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sercha]:
    """One `sercha up` with dead proxies, the locale C, few open files, below a linked folder.

    The limit is set for the whole process tree while it starts, so also for its PostgreSQL and Valkey.
    """
    home = tmp_path_factory.mktemp("narrow")
    (home / "real").mkdir()
    (home / "linked").symlink_to(home / "real")
    notes = home / "linked" / "notes"
    notes.mkdir()
    (notes / f"{NFC}-über.md").write_text("# Straße\n\nkaffeehaus in Wien\n", "utf-8")
    (notes / f"mac-{NFD}.md").write_text(f"# {NFD}\n\nteehaus am {NFD}\n", "utf-8")
    (notes / "日本.txt").write_text("日本語 の 文書\n", "utf-8")
    (notes / ".hidden").write_text("never read")
    for number in range(50):
        (notes / f"{number}.txt").write_text(f"plain note number{number}\n")
    dead = no_answer()
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"), f"http://{dead}")
    variables = {**proxies, "ALL_PROXY": f"socks5://{dead}", "LC_ALL": "C", "LANG": "C"}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    arguments = ("--data-dir", str(home / "linked/data"), "--index", str(notes), "--port", "0")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    try:
        sercha = Sercha(home, "up", *arguments, **variables)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    resource.prlimit(sercha.process.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    sercha.wait_ready()
    sercha.cli("sync", "--all", "--wait")
    yield sercha
    try:
        assert sercha.stop() == 0, sercha.output
        wait_gone(home)
    finally:
        clean_up(home)


def test_dead_proxies_of_the_environment_are_gone_past_on_loopback(narrow: Sercha) -> None:
    assert "7.txt" in narrow.cli("search", "number7").stdout
    (proxy,) = (finding for finding in sercha_doctor(narrow) if finding["name"] == "proxy")
    assert proxy["verdict"] == "warn"
    assert "ALL_PROXY" in proxy["message"]
    assert "unset" in proxy["mend"]


def test_a_proxy_of_a_kind_that_cannot_be_used_is_one_clear_line(narrow: Sercha) -> None:
    """An address that is not on loopback goes through the environment's proxy, and this one cannot be used."""
    narrow.env["SERCHA_URL"] = "http://sercha.invalid"
    try:
        answer = narrow.cli("status", check=False)
    finally:
        del narrow.env["SERCHA_URL"]

    assert answer.returncode == 2
    assert "ALL_PROXY" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_locale_c_loses_no_name_and_no_text(narrow: Sercha) -> None:
    assert search(narrow, "kaffeehaus") == [f"{NFC}-über.md"]
    assert search(narrow, "Straße") == [f"{NFC}-über.md"]
    assert search(narrow, "日本語") == ["日本.txt"]
    assert f"{NFC}-über.md" in narrow.cli("search", "kaffeehaus").stdout


def test_a_folder_is_counted_before_it_is_read(narrow: Sercha) -> None:
    counted = narrow.wait_line("files to read")
    read = narrow.wait_line(r"notes: \d+ added")

    assert counted.startswith("notes: 53 files to read (")
    assert counted.endswith("1 left out: 1 hidden")
    assert narrow.lines.index(counted) < narrow.lines.index(read)


@pytest.mark.parametrize("query", [NFC, NFD])
def test_names_and_texts_of_a_mac_are_found_in_either_form(narrow: Sercha, query: str) -> None:
    """A Mac's files have decomposed names; keyboards write composed ones. The name itself stays as it is."""
    assert f"mac-{NFD}.md" in search(narrow, query)
    assert search(narrow, f"{query} teehaus")[0] == f"mac-{NFD}.md"


def test_256_open_files_are_enough_for_a_crowd(narrow: Sercha) -> None:
    token = token_of(narrow)

    def ask(number: int) -> int:
        return narrow.request("GET", f"/search?q=number{number % 50}", token=token)[0]

    with ThreadPoolExecutor(100) as crowd:
        answers = list(crowd.map(ask, range(400)))

    assert set(answers) <= {200, 503}  # told to come again, at worst
    assert search(narrow, "number7") == ["7.txt"]
    limits = Path(f"/proc/{narrow.process.pid}/limits")
    if limits.exists():
        (line,) = (each for each in limits.read_text().splitlines() if "open files" in each)
        assert line.split()[3:5] == [str(OPEN_FILES)] * 2
    assert "Too many open files" not in narrow.output
    assert "Traceback" not in narrow.output


def test_a_port_in_use_names_who_has_it_and_makes_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        data_dir = tmp_path / "data"
        sercha = Sercha(tmp_path, "up", "--data-dir", str(data_dir), "--port", str(port))

        assert sercha.wait() == 2
        (line,) = (each for each in sercha.lines if each.startswith("sercha: error:"))
        assert f"port {port}" in line
        assert "--port" in line
        assert not data_dir.exists()
        if sys.platform == "linux":
            assert f"(process {os.getpid()})" in line
        found = sercha_doctor(sercha, PORT=str(port), DATA_DIR=str(data_dir))
        (finding,) = (each for each in found if each["name"] == "port")
        assert finding["verdict"] == "fail"
        assert "--port" in finding["mend"]
    wait_gone(tmp_path)


@pytest.mark.proof
def test_sleep_for_longer_than_claims_live_loses_and_doubles_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A laptop that is closed in the middle of a sync: all processes stand still at once, and go on."""
    request.addfinalizer(lambda: clean_up(tmp_path))
    notes = tmp_path / "notes"
    for number in range(FILES):
        file = notes / str(number % 20) / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"note number{number}\n" + f"some words of filler {number}\n" * 100)
    arguments = ("--data-dir", str(tmp_path / "data"), "--index", str(notes), "--port", "0")
    sercha = Sercha(tmp_path, "up", *arguments, WORKER_CLAIM_TTL="2s").wait_ready()
    before = wait_progress(sercha)
    assert before < FILES, "the sync was over before the lid was closed"
    assert search(sercha, "nothing") == []  # answers while the sync goes on

    asleep = processes_of(tmp_path)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in asleep:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(5)  # nothing to wait for: time is what it is about

    sercha.wait_line(r"notes: \d+ added")
    sercha.cli("sync", "--all", "--wait")
    status, sources = sercha.request("GET", "/sources", token=token_of(sercha))
    assert status == 200
    assert [each["document_count"] for each in sources] == [FILES]
    assert search(sercha, f"number{FILES - 1}")[0] == f"{FILES - 1}.txt"
    report = json.loads(sercha.cli("index", "verify", "--json").stdout)
    assert (report["missing"], report["stale"], report["ghost"]) == (0, 0, 0)
    assert report["checked"] == FILES
    assert sercha.stop() == 0, sercha.output
    assert "Traceback" not in sercha.output


def wait_progress(sercha: Sercha) -> int:
    """Wait until the only source has documents; return how many."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        _, sources = sercha.request("GET", "/sources", token=token_of(sercha))
        if sources and sources[0]["document_count"]:
            return sources[0]["document_count"]
        time.sleep(0.02)
    raise AssertionError(f"no document came:\n{sercha.output}")
