"""The deployments as a user starts them: the four commands, and a search from end to end."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.support.containers import SERVICES, Deployment, docker, run

pytestmark = pytest.mark.containers
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
WORD = "zephyrous"
"""Stands in ``docker/documents/welcome.md`` alone."""


@pytest.fixture(params=["small", pytest.param("reference", marks=pytest.mark.thorough)])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    return request.getfixturevalue(request.param)


def in_shell(deployment: Deployment, command: str) -> str:
    """Run a line as a user types it, in the folder where the manual says to."""
    return run(["sh", "-c", command], env=deployment.environ, cwd=deployment.home)


def test_the_four_commands_work(deployment: Deployment) -> None:
    in_shell(deployment, "docker compose up -d")
    logs = ESCAPE.sub("", in_shell(deployment, "docker compose logs --no-color"))
    for service in SERVICES:
        assert re.search(
            rf"^{service}-1 +\| \{{.*\"event\": ?\"process.ready\"", logs, re.MULTILINE
        ), service
    health = json.loads(in_shell(deployment, f"curl -fsS {deployment.url}/health"))
    assert health["status"] == "healthy"
    print(f"{deployment.files[0]}: {deployment.seconds_to_healthy:.1f} s from `up -d` to healthy")
    # `docker compose down` ends each of these at the end of the session.


def test_a_document_of_the_mounted_folder_is_found(deployment: Deployment) -> None:
    deployment.sercha("source", "add", "/documents", "--name", "documents", "--wait")
    printed = deployment.sercha("search", WORD)
    assert "/documents/welcome.md" in printed
    headers = {"Authorization": f"Bearer {deployment.token}"}
    answer = httpx.post(
        f"{deployment.url}/api/v1/search", json={"query": WORD}, headers=headers, timeout=30
    )
    found = answer.raise_for_status().json()
    assert [one["document"]["title"] for one in found["results"]] == ["Put your documents here"]


def test_every_role_is_healthy_by_its_own_word(deployment: Deployment) -> None:
    for service in SERVICES:
        assert deployment.sercha("healthcheck", service=service).strip() == "healthy", service


def test_doctor_finds_nothing_wrong(deployment: Deployment) -> None:
    for service, role in (("sercha-api-1", "api"), ("sercha-worker-1", "worker")):
        findings = json.loads(
            deployment.sercha("doctor", "--role", role, "--json", service=service)
        )
        failed = [one for one in findings if one["verdict"] == "failed"]
        assert not failed, failed


def test_what_is_used_at_rest_is_stated(deployment: Deployment) -> None:
    template = "{{.Name}} {{.MemUsage}}"
    lines = docker("stats", "--no-stream", "--format", template, *_ids(deployment)).splitlines()
    for line in sorted(lines):
        print(f"{deployment.files[0]}: {line.removeprefix(deployment.project + '-')}")
    assert len(lines) == len(_ids(deployment))


def test_containers_can_write_nowhere_else(deployment: Deployment) -> None:
    script = "for folder in / /etc /usr /opt /var/lib; do ! touch $folder/written 2>/dev/null || exit 1; done"
    for service in ("nginx", *SERVICES, "postgres", "redis"):
        deployment.compose("exec", "-T", service, "sh", "-c", script)


def test_nothing_but_nginx_is_reached_from_outside(deployment: Deployment) -> None:
    template = "{{json .NetworkSettings.Ports}}"
    for identifier in _ids(deployment):
        ports = json.loads(docker("inspect", "-f", template, identifier).strip()) or {}
        published = [port for port, hosts in ports.items() if hosts]
        name = docker("inspect", "-f", "{{.Name}}", identifier)
        assert published == (["8080/tcp"] if "nginx" in name else []), name


def _ids(deployment: Deployment) -> list[str]:
    return deployment.compose("ps", "-q").split()
