"""The client of endpoints like OpenAI's, against one that does everything wrong that these do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
import trio
import trio.testing

from sercha.adapters.embeddings import open_embedder
from sercha.adapters.embeddings.budget import RequestBudget, read_retry_after
from sercha.adapters.embeddings.openai import BATCH_CHARS, BATCH_TEXTS
from sercha.domain.embedding import EmbeddingModel, Refused, Vector, content_hash
from sercha.errors import Rejected, Unavailable
from tests.support.embeddings import (
    DIMENSIONS,
    Answer,
    EmbeddingEndpoint,
    running_endpoint,
    vector_of,
)


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as endpoint:
        yield endpoint


async def embed(endpoint: EmbeddingEndpoint, *texts: str, **options) -> list[Vector | Refused]:
    async with open_embedder(endpoint.url, "words", **options) as embedder:
        return await embedder.embed(texts)


def near(vector: Vector | Refused, text: str) -> bool:
    assert isinstance(vector, Vector)
    pairs = zip(vector.values(), vector_of(text), strict=True)
    return sum(one * other for one, other in pairs) > 0.999


async def test_each_text_gets_its_vector_in_order(endpoint: EmbeddingEndpoint) -> None:
    endpoint.change = lambda rows: rows[::-1]
    texts = [f"text number {n}" for n in range(2 * BATCH_TEXTS + 1)]

    vectors = await embed(endpoint, *texts)

    assert all(near(vector, text) for vector, text in zip(vectors, texts, strict=True))
    assert [len(each) for each in endpoint.requests] == [BATCH_TEXTS, BATCH_TEXTS, 1]


async def test_vectors_have_length_one_whatever_comes(endpoint: EmbeddingEndpoint) -> None:
    endpoint.change = lambda rows: [
        {**row, "embedding": [7 * value for value in row["embedding"]]} for row in rows
    ]

    [vector] = await embed(endpoint, "some words")

    assert isinstance(vector, Vector)
    assert math.hypot(*vector.values()) == pytest.approx(1, abs=1e-6)
    assert near(vector, "some words")
    assert vector.big_endian() == b"".join(
        vector.packed[at : at + 4][::-1] for at in range(0, 4 * DIMENSIONS, 4)
    )


async def test_batches_are_bounded_by_characters(endpoint: EmbeddingEndpoint) -> None:
    await embed(endpoint, "a " * (BATCH_CHARS // 3), "b " * (BATCH_CHARS // 3), "c " * BATCH_CHARS)

    assert [len(each) for each in endpoint.requests] == [1, 1, 1]


async def test_key_is_sent_only_where_there_is_one(endpoint: EmbeddingEndpoint) -> None:
    await embed(endpoint, "a")
    endpoint.key = "sk-1"
    await embed(endpoint, "a", api_key="sk-1")

    assert [each.get("authorization") for each in endpoint.headers] == [None, "Bearer sk-1"]


async def test_redirections_are_not_followed(endpoint: EmbeddingEndpoint) -> None:
    endpoint.faults = [Answer(307, headers={"Location": endpoint.url + "/embeddings"})]

    with pytest.raises(Rejected):
        await embed(endpoint, "a", api_key="sk-1")
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
async def test_passing_errors_are_tried_again(endpoint: EmbeddingEndpoint, status: int) -> None:
    endpoint.faults = [Answer(status, headers={"Retry-After": "0"})] * 2

    [vector] = await embed(endpoint, "a")

    assert near(vector, "a")
    assert len(endpoint.requests) == 3


async def test_retry_after_is_waited_for_or_passed_on(endpoint: EmbeddingEndpoint) -> None:
    endpoint.faults = [Answer(429, headers={"Retry-After": "1"})]
    began = trio.current_time()
    await embed(endpoint, "a")
    assert trio.current_time() - began >= 1

    endpoint.faults = [Answer(429, {"error": {"message": "slow down"}}, {"Retry-After": "3600"})]
    with pytest.raises(Unavailable, match="slow down") as caught:
        await embed(endpoint, "a")
    assert caught.value.error_code == "embedder-away"
    assert caught.value.retry_after == 3600


def test_retry_after_is_a_number_or_a_date() -> None:
    now = time.time()

    assert read_retry_after("12", lambda: now) == 12
    given = read_retry_after(formatdate(now + 30, usegmt=True), lambda: now)
    assert given is not None
    assert 28 < given <= 30
    assert read_retry_after(formatdate(now - 30, usegmt=True), lambda: now) == 0
    assert read_retry_after("soon", lambda: now) is None
    assert read_retry_after(None, lambda: now) is None


async def test_endpoint_that_hangs_costs_no_more_than_the_call(endpoint: EmbeddingEndpoint) -> None:
    endpoint.opened.clear()
    began = trio.current_time()

    with pytest.raises(Unavailable, match="no answer"):
        await embed(endpoint, "a", call_seconds=0.3)
    assert trio.current_time() - began < 2


async def test_endpoint_that_is_away_is_said_to_be() -> None:
    with running_endpoint() as endpoint:
        pass

    with pytest.raises(Unavailable, match="ConnectError") as caught:
        await embed(endpoint, "a", call_seconds=0.3)
    assert caught.value.error_code == "embedder-away"


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_the_one_text_that_is_refused_is_found(
    endpoint: EmbeddingEndpoint, status: int
) -> None:
    refusal = Answer(status, {"error": {"message": "bad text"}}, {"Retry-After": "0"})
    endpoint.refuse = lambda texts: refusal if any("bad" in text for text in texts) else None
    texts = [f"text {n}" for n in range(9)] + ["bad"] + ["more", "bad too", ""]

    vectors = await embed(endpoint, *texts)

    refused = [at for at, each in enumerate(vectors) if isinstance(each, Refused)]
    assert refused == [9, 11, 12]
    assert "bad text" in vectors[9].reason  # type: ignore[union-attr]
    assert all(near(vectors[at], texts[at]) for at in range(13) if at not in refused)
    assert all("" not in each for each in endpoint.requests)


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_endpoint_that_refuses_everything_refuses_no_text(
    endpoint: EmbeddingEndpoint, status: int
) -> None:
    endpoint.refuse = lambda texts: Answer(status, {"error": "no"}, {"Retry-After": "0"})

    with pytest.raises(Rejected) as caught:
        await embed(endpoint, "a", "b")
    assert caught.value.error_code == "embedder-refused"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_wrong_key_or_model_is_said_at_once(endpoint: EmbeddingEndpoint, status: int) -> None:
    endpoint.faults = [Answer(status, {"error": {"message": "not you"}})]

    with pytest.raises(Rejected, match="not you") as caught:
        await embed(endpoint, "a", api_key="sk-very-secret")
    assert caught.value.error_code == "embedder-refused"
    assert "sk-very-secret" not in str(caught.value)
    assert len(endpoint.requests) == 1


async def test_smaller_batches_are_sent_where_only_these_are_taken(
    endpoint: EmbeddingEndpoint,
) -> None:
    endpoint.refuse = lambda texts: Answer(413, {"error": "too many"}) if len(texts) > 32 else None

    vectors = await embed(endpoint, *(f"text {n}" for n in range(256)))

    assert all(isinstance(each, Vector) for each in vectors)
    assert [len(each) for each in endpoint.requests] == [64, 1, *[32] * 8]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, 0.0, None, "x", pytest.param(10**400, id="huge")]
)
async def test_vector_without_direction_is_none(endpoint: EmbeddingEndpoint, value: object) -> None:
    def change(rows: list[dict]) -> list[dict]:
        return [rows[0], {**rows[1], "embedding": [value] * DIMENSIONS}]

    endpoint.change = change

    vectors = await embed(endpoint, "a", "b")

    assert near(vectors[0], "a")
    assert isinstance(vectors[1], Refused)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],
        lambda rows: [{**row, "index": 0} for row in rows],
        lambda rows: [{**row, "embedding": row["embedding"][1:]} for row in rows],
        lambda rows: [{**row, "embedding": []} for row in rows],
        lambda rows: [{**row, "embedding": "AACAPw=="} for row in rows],
        lambda rows: [{"index": 0}],
        lambda rows: None,
        lambda rows: [3],
    ],
)
async def test_answer_to_something_else_is_not_taken(endpoint: EmbeddingEndpoint, change) -> None:
    endpoint.change = change

    with pytest.raises(Rejected) as caught:
        await embed(endpoint, "a", "b", dimensions=DIMENSIONS)
    assert caught.value.error_code == "embedder-refused"


@pytest.mark.parametrize("content", [b"<html>", b"\xff", b"", b"[]"])
async def test_answer_that_is_no_json_is_not_taken(
    endpoint: EmbeddingEndpoint, content: bytes
) -> None:
    endpoint.faults = [Answer(200, content)]

    with pytest.raises(Rejected):
        await embed(endpoint, "a")


async def test_budget_lets_so_many_requests_go_in_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = RequestBudget(per_minute=60)
    began = trio.current_time()
    for _ in range(20):
        await trio.sleep(budget.wait)
        budget.take()

    assert 17 <= trio.current_time() - began <= 20
    budget.pause(50)
    assert budget.wait >= 50
    assert RequestBudget().wait == 0


def test_name_of_a_model_says_where_which_and_how_long() -> None:
    models = [
        EmbeddingModel("http://a/v1", "m", 3),
        EmbeddingModel("http://b/v1", "m", 3),
        EmbeddingModel("http://a/v1", "n", 3),
        EmbeddingModel("http://a/v1", "m", 4),
    ]

    assert len({each.name for each in models}) == 4
    assert all(len(each.name) == 8 for each in models)
    assert len(content_hash("a\nb")) == 32
