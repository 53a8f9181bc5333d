"""The images under test, and one deployment of each kind that all tests of the session share."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sercha.testing.cluster.balancer import find_nginx
from tests.support import require
from tests.support.containers import IMAGE, ROOT, Deployment, docker, has_engine

HERE = Path(__file__).parent
NEW_ENOUGH = (1, 27, 3)
"""The nginx for which nginx.conf is written."""


@pytest.fixture(scope="session")
def engine() -> None:
    """Skip without a Docker engine and Compose."""
    require("containers", has_engine(), "no Docker engine with Compose answers")


@pytest.fixture(scope="session")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image as ``docker/Dockerfile`` says, and return its name."""
    revision = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    docker(
        *("build", "--quiet", "--file", str(ROOT / "docker" / "Dockerfile"), "--tag", IMAGE),
        *("--build-arg", f"REVISION={revision or 'unknown'}", *_package_mirror(), str(ROOT)),
    )
    return IMAGE


def _package_mirror() -> list[str]:
    """Give the build this machine's way to packages, if it has one of its own."""
    found = [path for path in (Path("/etc/pip.conf"),) if path.exists()]
    return [*(f"--secret=id=pip,src={path}" for path in found), "--network=host"]


@pytest.fixture(scope="session")
def stand_ins(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what stands in for other images, and return the override file."""
    program = find_nginx()
    folder = tmp_path_factory.mktemp("nginx")
    shutil.copy2(program, folder / "nginx")
    for name, context in (("vespa", ROOT / "tests"), ("nginx", folder)):
        file, tag = str(HERE / f"{name}.Dockerfile"), f"sercha-{name}:under-test"
        docker("build", "--quiet", "--file", file, "--tag", tag, str(context))
    return HERE / "stand-ins.yaml"


@pytest.fixture(scope="session")
def small(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Start ``compose.small.yaml`` as it is, with the nginx that this machine's image has."""
    words = docker("run", "--rm", "nginx:alpine", "sh", "-c", "nginx -v 2>&1").split("nginx/")[1]
    version = tuple(map(int, words.split()[0].split(".")))
    conf = "nginx.conf" if version >= NEW_ENOUGH else "nginx-1.22.conf"
    deployment = Deployment(
        tmp_path_factory.mktemp("small"), ("compose.small.yaml",), settings={"NGINX_CONF": conf}
    )
    yield from _running(deployment)


@pytest.fixture(scope="session")
def reference(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Start ``compose.yaml`` with the stand-ins."""
    folder = tmp_path_factory.mktemp("reference")
    yield from _running(Deployment(folder, ("compose.yaml",), (stand_ins,)))


def _running(deployment: Deployment) -> Iterator[Deployment]:
    deployment.make_secrets()
    try:
        deployment.seconds_to_healthy = deployment.up()
        deployment.set_up()
        yield deployment
    finally:
        deployment.down()
