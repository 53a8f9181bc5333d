"""What commands and `sercha doctor` make of limits, proxies and ports of the machine."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Iterator

import pytest

from sercha.cli import checks_machine
from sercha.cli.checks import Finding, Verdict
from sercha.cli.checks_machine import check_surroundings
from sercha.cli.limits import OPEN_FILES_WANTED, raise_open_files
from sercha.cli.proxies import proxy_variable
from sercha.roles.api.port_holder import holder_of


@pytest.fixture
def few_open_files() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def find(name: str, **environ: str) -> Finding:
    (finding,) = (each for each in check_surroundings(environ) if each.name == name)
    return finding


def test_open_files_are_raised_as_far_as_the_system_allows(few_open_files: int) -> None:
    raise_open_files()

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most == few_open_files
    assert now == (OPEN_FILES_WANTED if most < 0 else min(OPEN_FILES_WANTED, most))


def test_more_open_files_than_wanted_are_left_as_they_are(few_open_files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (few_open_files, few_open_files))
    raise_open_files()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few_open_files, few_open_files)


def test_too_few_open_files_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_machine, "open_files", lambda: (100, 100))

    finding = find("open files")
    assert finding.verdict is Verdict.FAIL
    assert "ulimit -n" in finding.mend


def test_names_in_ascii_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("names").verdict is Verdict.OK
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")

    finding = find("names")
    assert finding.verdict is Verdict.WARN
    assert "C.UTF-8" in finding.mend


def test_little_shared_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_machine, "shared_memory", dict)
    assert "enough" in find("shared memory").message
    monkeypatch.setattr(checks_machine, "shared_memory", lambda: {"any": "setting"})

    assert "files" in find("shared memory").message


def test_proxies_are_found_and_those_of_no_use_are_named() -> None:
    assert not [each for each in check_surroundings({}) if each.name == "proxy"]
    assert find("proxy", HTTPS_PROXY="http://proxy:3128").verdict is Verdict.OK

    finding = find("proxy", HTTPS_PROXY="http://proxy:3128", all_proxy="socks5://proxy:1080")
    assert finding.verdict is Verdict.WARN
    assert "all_proxy" in finding.message


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("http://there:8080", "HTTP_PROXY"),
        ("https://there", "all_proxy"),
        ("http://past.example:8080", None),
    ],
)
def test_variable_that_names_the_proxy_of_an_address(url: str, variable: str | None) -> None:
    environ = {"HTTP_PROXY": "http://a", "all_proxy": "http://b", "NO_PROXY": ".example"}

    assert proxy_variable(url, environ) == variable


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_holder_of_a_port_is_found(family: socket.AddressFamily, host: str) -> None:
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"no {host} here")
    with taken:
        port = taken.getsockname()[1]

        assert str(holder_of(port)).endswith(f"(process {os.getpid()})")
    assert holder_of(port) is None
