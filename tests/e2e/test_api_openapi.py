"""The API describes all of itself, and speaks in the Go program's shapes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sercha.roles.api import (
    ai_settings,
    ai_shapes,
    auth,
    search,
    settings,
    setup,
    shapes,
    sources,
    users,
    vespa,
    vespa_shapes,
)
from tests.support.api import Api, open_api
from tests.support.upstream import SHAPES

OURS = {
    "SyncState": {"items_expected", "items_done"},
    "SyncStats": {"documents_unchanged", "documents_read", "documents_skipped"},
    "SyncAcceptedResponse": {"task_id"},
    "Chunk": {"heading"},
    "RankedChunk": {"also_at"},
    "SearchResult": {"coverage", "degraded"},
    "SetupRequest": {"setup_token"},
    "AIProviderInfo": {"requests_per_minute"},
    "EmbeddingSettingsInput": {"requests_per_minute"},
    "AISettingsStatus": {"progress", "message"},
    "SourceConfig": {"include_hidden", "exclude", "mount_points"},
    "SearchRequest": {"types", "modified_from", "modified_before", "path"},
}
"""Fields that the Go program has not."""
LEFT_OUT = {"Chunk": {"embedding"}}


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Api]:
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


async def test_every_route_is_described(api: Api) -> None:
    answer = await api.client.get("/openapi.json")

    assert answer.status_code == 200
    document = answer.json()
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == routes
    assert ("POST", "/api/v1/search") in routes
    assert {("GET", prefix + "/health") for prefix in ("", "/api/v1")} <= routes


async def test_every_operation_has_schemas_that_resolve(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    text = json.dumps(document)

    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"], name
    assert set(re.findall(r'"\$ref": "(#/[^/"]+/[^/"]+)/', text)) == {"#/components/schemas"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            successes = [status for status in operation["responses"] if status < "300"]
            assert len(successes) == 1, (method, path)
            for response in operation["responses"].values():
                [content] = response["content"].values()
                assert content["schema"]
            if method == "put" or path.endswith(("/search", "/setup", "/login", "/refresh")):
                assert method == "get" or "requestBody" in operation, (method, path)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shape_has_the_go_programs_fields(name: str) -> None:
    answers, more = (shapes, ai_shapes, vespa_shapes), (ai_settings, vespa)
    rooms = (*answers, *more, auth, search, settings, setup, sources, users)
    [model] = {getattr(room, name) for room in rooms if hasattr(room, name)}

    assert set(model.model_fields) == SHAPES[name] - LEFT_OUT.get(name, set()) | OURS.get(
        name, set()
    )
