"""Vespa's state and application over HTTP, for administrators, on the stand-in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import trio

from sercha.adapters.vespa import deploy, open_vespa_index
from sercha.domain.account import Role
from sercha.roles.api import create_app
from sercha.services.ports.vector_search import VectorsState
from tests.support.api import ADMIN, Api, open_api
from tests.support.generations import MemoryGenerations
from tests.vespa import Vespa, open_vespa

URL = "/api/v1/admin/vespa"


@dataclass
class Lab:
    """An API whose engine is the stand-in, to which nothing is deployed yet."""

    api: Api
    vespa: Vespa
    state: VectorsState

    async def vectors(self) -> VectorsState:
        await trio.lowlevel.checkpoint()
        return self.state


@pytest.fixture
async def lab(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Lab]:
    async with (
        open_vespa(containers=1) as vespa,
        open_api(postgres_url, tmp_path) as api,
        open_vespa_index(
            vespa.container_urls, [vespa.config_url], MemoryGenerations(), cluster="sercha"
        ) as index,
    ):
        lab = Lab(api, vespa, VectorsState(is_usable=True, is_vespa=True))
        services = replace(
            api.services,
            vespa=index,
            vespa_endpoints=tuple(vespa.container_urls),
            vectors=lab.vectors,
        )
        transport = httpx.ASGITransport(app=cast("Any", create_app(services)))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            lab.api = replace(api, client=client, services=services)
            yield lab


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_connecting_deploys_once_and_shows_what_runs(lab: Lab) -> None:
    headers = await lab.api.setup()
    before = (await lab.api.client.get(f"{URL}/status", headers=headers)).json()

    [endpoint] = lab.vespa.container_urls
    answers = [
        await lab.api.client.post(f"{URL}/connect", headers=headers, json=body)
        for body in ({"dev_mode": True}, {"endpoint": endpoint}, {"endpoint": endpoint + "/"})
    ]
    after = (await lab.api.client.get(f"{URL}/status", headers=headers)).json()

    assert "cluster_info" not in before
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    assert after == answers[0].json() == answers[2].json()
    cluster = after["cluster_info"]
    assert cluster["our_schema_deployed"] is True
    assert len(after["schema_version"]) == 8
    [content] = cluster["content_clusters"]
    assert content["id"] == "sercha"
    assert {"sercha_document", "sercha_position"} <= set(content["documents"])
    assert {"sercha_document", "sercha_position"} <= set(cluster["schemas"])
    [container] = cluster["container_clusters"]
    assert (container["has_feed"], container["has_query"]) == (True, True)
    assert cluster["services_xml"].lstrip().startswith("<")
    assert after["connected"] is after["healthy"] is True
    assert after["endpoint"] == endpoint
    assert (after["schema_mode"], after["can_upgrade"]) == ("bm25", True)
    assert after["indexed_chunks"] == 0


async def test_chunks_are_counted_when_vespa_has_all_of_them(lab: Lab) -> None:
    headers = await lab.api.setup()
    await lab.api.document(await lab.api.source(headers), "one chunk")
    counted = (await lab.api.client.get(f"{URL}/status", headers=headers)).json()
    lab.api.services.health.is_caught_up = lambda: False
    behind = (await lab.api.client.get(f"{URL}/status", headers=headers)).json()

    assert counted["indexed_chunks"] == 1
    assert "indexed_chunks" not in behind


async def test_config_server_that_is_away_is_said_and_hides_nothing_else(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "TRIES_MAX", 3)
    headers = await lab.api.setup()
    await lab.vespa.stop_config()

    status = await lab.api.client.get(f"{URL}/status", headers=headers)
    connected = await lab.api.client.post(f"{URL}/connect", headers=headers, json={})

    assert status.status_code == 200
    assert status.json()["connected"] is True
    assert "cluster_info" not in status.json()
    assert code(connected) == (503, "vespa-away")


async def test_another_address_and_another_engine_are_refused(lab: Lab) -> None:
    headers = await lab.api.setup()
    elsewhere = {"endpoint": "http://vespa.example.org:8080"}
    wrong = await lab.api.client.post(f"{URL}/connect", headers=headers, json=elsewhere)
    member = {"json": {}, "headers": await lab.api.user(Role.MEMBER)}
    forbidden = await lab.api.client.post(f"{URL}/connect", **member)

    assert code(wrong) == (400, "bad-field")
    assert lab.vespa.container_urls[0] in wrong.json()["error"]
    assert forbidden.status_code == 403


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (VectorsState(is_usable=True, is_vespa=True), 200),
        (VectorsState(is_usable=True, is_vespa=True, is_healthy=False, message="gone"), 503),
        (VectorsState(is_usable=False), 503),
    ],
    ids=["well", "away", "embedded"],
)
async def test_health_is_that_of_the_engine(lab: Lab, state: VectorsState, status: int) -> None:
    headers = await lab.api.setup()
    lab.state = state

    answer = await lab.api.client.get(f"{URL}/health", headers=headers)
    shown = (await lab.api.client.get(f"{URL}/status", headers=headers)).json()

    assert answer.status_code == status
    if status == 503:
        assert answer.json()["code"] == "vespa-away"
        assert "Retry-After" in answer.headers
    assert shown["healthy"] is shown["connected"] is (status == 200)


async def test_without_vespa_there_is_nothing_to_connect(postgres_url: str, tmp_path: Path) -> None:
    async with open_api(postgres_url, tmp_path) as api:
        headers = await api.setup()
        answer = await api.client.post(f"{URL}/connect", headers=headers, json={})

        assert code(answer) == (409, "no-vespa")
        assert ADMIN["email"] not in answer.text
