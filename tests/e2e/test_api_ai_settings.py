"""Choosing the model that makes vectors, over HTTP; its key goes in and never comes out."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from sercha.domain.account import Role
from tests.support.api import Api, open_api
from tests.support.embeddings import DIMENSIONS, Answer, EmbeddingEndpoint, running_endpoint
from tests.support.upstream import SHAPES

URL = "/api/v1/settings/ai"
KEY = "sk-this-is-very-secret"


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Api]:
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as endpoint:
        yield endpoint


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def wanted(endpoint: EmbeddingEndpoint, **changes: object) -> dict[str, object]:
    given = {"provider": "ollama", "model": "words", "base_url": endpoint.url, **changes}
    return {"embedding": given, "llm": None}


async def test_model_is_chosen_shown_and_tested(api: Api, endpoint: EmbeddingEndpoint) -> None:
    headers = await api.setup()
    nothing = (await api.client.get(URL, headers=headers)).json()
    untested = await api.client.post(f"{URL}/test", headers=headers)

    chosen = await api.client.put(URL, headers=headers, json=wanted(endpoint))
    shown = (await api.client.get(URL, headers=headers)).json()
    tested = await api.client.post(f"{URL}/test", headers=headers)

    assert nothing["embedding"] == {"has_api_key": False, "is_configured": False}
    assert code(untested) == (409, "no-embedder")
    assert chosen.status_code == 200, chosen.text
    assert SHAPES["AISettingsStatus"] <= chosen.json().keys()
    assert chosen.json()["effective_search_mode"] == "text", "until the vectors are there"
    assert chosen.json()["progress"] == [
        {"model": "words", "state": "filling", "documents": 0, "embedded": 0}
    ]
    assert shown["embedding"] == {
        "provider": "ollama",
        "model": "words",
        "base_url": endpoint.url,
        "has_api_key": False,
        "is_configured": True,
    }
    assert tested.json() == {"status": "ok"}
    assert endpoint.requests == [["word"], ["word"]]


async def test_status_is_that_of_the_current_model(api: Api, endpoint: EmbeddingEndpoint) -> None:
    headers = await api.setup()
    await api.client.put(URL, headers=headers, json=wanted(endpoint))
    async with api.pool.connection() as connection:
        await connection.execute("UPDATE embedding_model SET state = 'current'")
    await api.client.put(
        "/api/v1/settings", headers=headers, json={"default_search_mode": "hybrid"}
    )
    viewer = await api.user(Role.VIEWER)

    status = (await api.client.get(f"{URL}/status", headers=viewer)).json()
    again = (await api.client.get(f"{URL}/status", headers=viewer)).json()

    assert status == again
    assert status["embedding"] == {
        "available": True,
        "provider": "ollama",
        "model": "words",
        "embedding_dim": DIMENSIONS,
    }
    assert status["effective_search_mode"] == "hybrid"
    assert status["vespa"] == {
        "connected": True,
        "schema_mode": "hybrid",
        "embeddings_enabled": True,
        "embedding_dim": DIMENSIONS,
        "can_upgrade": False,
        "healthy": True,
    }
    assert len(endpoint.requests) == 2, "viewers cannot make it ask over and over"


async def test_key_is_sealed_and_neither_shown_nor_logged(
    api: Api, endpoint: EmbeddingEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = await api.setup()
    endpoint.key = KEY

    with structlog.testing.capture_logs() as logs:
        answers = [
            await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=KEY)),
            await api.client.get(URL, headers=headers),
            await api.client.post(f"{URL}/test", headers=headers),
            await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=KEY + "\0")),
            await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=KEY + "x")),
            await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=[KEY])),
            await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=KEY * 200)),
            await api.client.get("/openapi.json", headers=headers),
        ]

    assert [each.status_code for each in answers] == [200, 200, 200, 400, 400, 400, 400, 200]
    assert answers[1].json()["embedding"]["has_api_key"] is True
    assert [each.text for each in answers if KEY in each.text] == []
    assert KEY not in str(logs)
    assert KEY not in caplog.text
    async with api.pool.connection() as connection:
        cursor = await connection.execute("SELECT * FROM embedding_model, idempotency_key")
        assert KEY.encode() not in repr(await cursor.fetchall()).encode()
        cursor = await connection.execute("SELECT api_key FROM embedding_model")
        [[sealed]] = await cursor.fetchall()
    assert KEY.encode() not in sealed


async def test_kept_key_goes_to_its_own_address_only(api: Api, endpoint: EmbeddingEndpoint) -> None:
    headers = await api.setup()
    endpoint.key = KEY
    await api.client.put(URL, headers=headers, json=wanted(endpoint, api_key=KEY))

    same = await api.client.put(URL, headers=headers, json=wanted(endpoint, model="other"))
    with running_endpoint() as thief:
        elsewhere = await api.client.put(URL, headers=headers, json=wanted(thief))
        assert elsewhere.status_code == 200
        assert thief.headers[0].get("authorization") is None
    assert same.status_code == 200
    assert endpoint.headers[-1]["authorization"] == f"Bearer {KEY}"


async def test_endpoint_that_does_not_answer_changes_nothing(
    api: Api, endpoint: EmbeddingEndpoint
) -> None:
    headers = await api.setup()
    endpoint.refuse = lambda texts: Answer(503, {"error": "later"})
    away = await api.client.put(URL, headers=headers, json=wanted(endpoint))
    endpoint.refuse = lambda texts: Answer(404, {"error": "no such model"})
    refused = await api.client.put(URL, headers=headers, json=wanted(endpoint))

    assert code(away) == (503, "embedder-away")
    assert code(refused) == (400, "embedder-refused")
    assert "no such model" in refused.text
    shown = (await api.client.get(URL, headers=headers)).json()
    assert shown["embedding"]["is_configured"] is False


async def test_repeat_with_a_key_asks_the_endpoint_once(
    api: Api, endpoint: EmbeddingEndpoint
) -> None:
    headers = {**await api.setup(), "Idempotency-Key": "one"}

    answers = [await api.client.put(URL, headers=headers, json=wanted(endpoint)) for _ in range(3)]

    assert [each.status_code for each in answers] == [200] * 3
    assert [each.headers.get("Idempotency-Replayed") for each in answers] == [None, "true", "true"]
    assert len(endpoint.requests) == 1


async def test_model_can_be_given_up(api: Api, endpoint: EmbeddingEndpoint) -> None:
    headers = await api.setup()
    await api.client.put(URL, headers=headers, json=wanted(endpoint))

    given_up = await api.client.put(URL, headers=headers, json={"embedding": {"provider": ""}})
    kept = await api.client.put(URL, headers=headers, json={})

    assert given_up.json()["progress"] == []
    assert kept.json()["embedding"] == {"available": False}
    shown = (await api.client.get(URL, headers=headers)).json()
    assert shown["embedding"]["is_configured"] is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provider": "else"}, "provider"),
        ({"provider": ""}, "provider"),
        ({"model": ""}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"base_url": "ftp://a/v1"}, "base_url"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://[/v1"}, "base_url"),
        ({"base_url": "http://ann:t0ps3cret@a/v1"}, "base_url"),
        ({"base_url": "http://a/v1?key=1"}, "base_url"),
        ({"base_url": "http://a/\nv1"}, "base_url"),
        ({"provider": "voyage", "base_url": ""}, "base_url"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
    ],
)
async def test_wrong_fields_are_named(
    api: Api, endpoint: EmbeddingEndpoint, change: dict[str, object], said: str
) -> None:
    headers = await api.setup()

    answer = await api.client.put(URL, headers=headers, json=wanted(endpoint, **change))

    assert code(answer) == (400, "bad-field")
    assert said in answer.json()["error"]
    assert "t0ps3cret" not in answer.text
    assert endpoint.requests == []


async def test_only_administrators_choose(api: Api, endpoint: EmbeddingEndpoint) -> None:
    await api.setup()
    member = await api.user(Role.MEMBER)

    answers = [
        await api.client.get(URL, headers=member),
        await api.client.put(URL, headers=member, json=wanted(endpoint)),
        await api.client.post(f"{URL}/test", headers=member),
    ]

    assert [code(each) for each in answers] == [(403, "role-required")] * 3


async def test_language_models_are_refused(api: Api, endpoint: EmbeddingEndpoint) -> None:
    headers = await api.setup()
    body = {"llm": {"provider": "openai", "model": "x"}}

    assert code(await api.client.put(URL, headers=headers, json=body)) == (400, "bad-field")
