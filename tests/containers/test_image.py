"""The image: who runs in it, what is in it, and what is not."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from sercha.version import __version__
from tests.support.containers import Deployment, docker

pytestmark = pytest.mark.containers
TOOLS = ("gcc", "cc", "make", "pip", "git", "curl", "uv")
OWN_PLACES = {"/data", "/tmp"}


@pytest.fixture(scope="session")
def config(image: str) -> dict[str, object]:
    return json.loads(docker("inspect", image))[0]["Config"]


def inside(image: str, *command: str) -> str:
    """Run a command in the image as it is meant to run: its own user, nothing to write to."""
    options = (
        "--rm",
        "--read-only",
        "--cap-drop=ALL",
        "--network=none",
        "--entrypoint",
        command[0],
    )
    return docker("run", *options, image, *command[1:])


def test_it_runs_as_a_number_and_stops_by_signal(config: dict[str, object]) -> None:
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["sercha"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "sercha", "healthcheck"]  # type: ignore[index]


def test_labels_say_what_it_is(config: dict[str, object]) -> None:
    labels = config["Labels"]
    assert isinstance(labels, dict)
    prefix = "org.opencontainers.image."
    assert labels[prefix + "version"] == __version__
    assert labels[prefix + "licenses"] == "Apache-2.0"
    assert len(labels[prefix + "revision"]) in (40, len("unknown"))


def test_it_prints_its_version_with_nothing_to_write_to(image: str) -> None:
    assert inside(image, "sercha", "--version").strip() == f"sercha {__version__}"


def test_nothing_that_builds_or_installs_is_inside(image: str) -> None:
    command = "for tool in " + " ".join(TOOLS) + "; do command -v $tool; done; true"
    assert inside(image, "sh", "-c", command) == ""
    assert inside(image, "sh", "-c", "ls /src /wheels 2>/dev/null; true") == ""


def test_it_owns_nothing_but_the_place_of_the_index(image: str) -> None:
    command = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -writable ! -type l -print"
    options = ("--rm", "--cap-drop=ALL", "--network=none", "--entrypoint", "sh")
    found = set(docker("run", *options, image, "-c", command + " 2>/dev/null; true").split())
    assert {place for place in found if place not in OWN_PLACES} <= {"/run/lock", "/var/tmp"}
    assert "/data" in found


def test_it_starts_without_compiling(image: str) -> None:
    """Byte code is in the image: a read-only root could keep none, and each start would pay for it."""
    script = (
        "import sercha.cli.run as m, pathlib, importlib.util as u;"
        "print(pathlib.Path(u.cache_from_source(m.__file__)).exists())"
    )
    assert inside(image, "python", "-c", script).strip() == "True"


def test_its_size_is_stated(image: str, tmp_path: Path) -> None:
    size = int(docker("inspect", "-f", "{{.Size}}", image))
    base = int(docker("inspect", "-f", "{{.Size}}", "python:3.12-slim"))
    print(f"image {size / 1e6:.0f} MB, of it {(size - base) / 1e6:.0f} MB above python:3.12-slim")
    assert size - base < 250e6


def test_no_layer_and_no_log_holds_a_secret(image: str, small: Deployment, tmp_path: Path) -> None:
    lines = (small.home / ".env").read_text().splitlines()
    secrets = [line.split("=", 1)[1].encode() for line in lines if "=" in line and line[0] != "#"]
    assert len(secrets) == 5
    log = small.compose("logs", "--no-color").encode()
    assert b"process.ready" in log
    assert not [secret for secret in secrets if secret in log]
    docker("save", "--output", str(tmp_path / "image.tar"), image)
    mirror = Path("/etc/pip.conf")
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = _names_in_layers(archive)
    assert "etc/pip.conf" not in names or not mirror.exists()
    assert not {name for name in names if Path(name).name in (".env", "make-secrets")}


def _names_in_layers(archive: tarfile.TarFile) -> set[str]:
    names: set[str] = set()
    for member in archive.getmembers():
        stream = archive.extractfile(member) if member.isfile() else None
        if stream is None or member.size < 1024:
            continue
        try:
            with tarfile.open(fileobj=stream) as layer:
                names |= set(layer.getnames())
        except tarfile.ReadError:
            continue  # a description, no layer
    assert "opt/sercha/bin/sercha" in names
    return names
