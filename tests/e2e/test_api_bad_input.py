"""Whatever is sent, the answer is JSON with a sentence and a code, and nothing breaks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from sercha.domain.query import SearchQuery
from sercha.errors import Transient, Unavailable
from sercha.roles.api import ApiOptions
from sercha.services.ports import IndexPage
from tests.support.api import ADMIN, Api, open_api

SEARCH = "/api/v1/search"


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Api]:
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "code"}, body
    assert "Traceback" not in body["error"]
    return answer.status_code, body["code"]


async def post(api: Api, headers: dict[str, str], content: bytes) -> httpx.Response:
    typed = {**headers, "Content-Type": "application/json"}
    return await api.client.post(SEARCH, headers=typed, content=content)


BAD_BODIES: list[tuple[bytes, str, str]] = [
    (b"", "bad-json", "empty"),
    (b"{", "bad-json", "line 1 column 1"),
    (b'{\n"query": }', "bad-json", "line 2 column 10"),
    (b"[]", "bad-json", "object"),
    (b"null", "bad-json", "object"),
    (b'"x"', "bad-json", "object"),
    (b"\xff\xfe", "bad-json", ""),
    (b'{"query": "\xff"}', "bad-json", ""),
    (b'{"query": "\\ud800"}', "bad-json", ""),
    (b'{"query": "a\\u0000b"}', "bad-field", "query:"),
    (b"[" * 100_000, "bad-json", ""),
    (b'{"query":' + b"[" * 100_000, "bad-json", ""),
    (b"{}", "bad-field", "query: is required"),
    (b'{"query": 5}', "bad-field", "query:"),
    (b'{"query": null}', "bad-field", "query:"),
    (b'{"query": ["a"]}', "bad-field", "query:"),
    (b'{"query": "a", "colour": 1}', "unknown-field", "allowed: query, mode, limit"),
    (b'{"query": "a", "a\\nb": 1}', "unknown-field", "allowed"),
    (b'{"query": "a", "mode": "magic"}', "bad-field", "'text', 'semantic' or 'hybrid'"),
    (b'{"query": "a", "limit": "5"}', "bad-field", "limit:"),
    (b'{"query": "a", "limit": 1.5}', "bad-field", "limit:"),
    (b'{"query": "a", "limit": true}', "bad-field", "limit:"),
    (b'{"query": "a", "limit": NaN}', "bad-field", "limit:"),
    (b'{"query": "a", "limit": -1}', "bad-limit", "1 to 100"),
    (b'{"query": "a", "limit": 0}', "bad-limit", "1 to 100"),
    (b'{"query": "a", "limit": 1000000000}', "bad-limit", "1 to 100"),
    (b'{"query": "a", "limit": 1' + b"0" * 400 + b"}", "bad-limit", "1 to 100"),
    (b'{"query": "a", "limit": 1' + b"0" * 5000 + b"}", "", ""),
    (b'{"query": "a", "offset": -1}', "bad-offset", "0 to 9980"),
    (b'{"query": "a", "offset": 1000000000}', "bad-offset", "0 to 9980"),
    (b'{"query": "a", "source_ids": ["x"]}', "bad-field", "source_ids.0"),
    (b'{"query": "a", "source_ids": "x"}', "bad-field", "source_ids"),
    (b'{"query": ""}', "empty-query", "query"),
    (b'{"query": "-a"}', "empty-query", "query"),
    (b'{"query": "' + b"x" * 100_000 + b'"}', "query-too-long", "2000"),
    (b'{"query": "a", "types": "text/plain"}', "bad-field", "types:"),
    (b'{"query": "a", "types": [1]}', "bad-field", "types.0:"),
    (b'{"query": "a", "types": ["text/plain", "text"]}', "bad-types", "types: 'text'"),
    (b'{"query": "a", "types": ["a/b"' + b', "a/b"' * 20 + b"]}", "bad-types", "types: 21"),
    (b'{"query": "a", "modified_from": 1793534400}', "bad-field", "modified_from: should be"),
    (b'{"query": "a", "modified_from": "2026-11-01"}', "bad-field", "modified_from: should be"),
    (b'{"query": "a", "modified_before": true}', "bad-field", "modified_before: should be"),
    (b'{"query": "a", "modified_before": "2026-02-30T00:00:00Z"}', "bad-field", "got '2026-02-30T"),
    (
        b'{"query": "a", "modified_from": "2026-11-01T00:00:00Z", "modified_before": "2026-11-01T01:00:00+01:00"}',
        "bad-modified",
        "modified_before:",
    ),
    (b'{"query": "a", "path": ["a"]}', "bad-field", "path:"),
    (b'{"query": "a", "path": "a\\u0000"}', "bad-field", "path:"),
    (b'{"query": "a", "path": "\\udcff"}', "bad-json", ""),
    (b'{"query": "a", "path": "' + b"x" * 4_097 + b'"}', "bad-path", "path: 4097"),
]
"""What is sent, the code (empty: any), and what the sentence holds."""


async def test_bad_body_is_explained(api: Api) -> None:
    headers = await api.setup()

    for content, code, said in BAD_BODIES:
        answer = await post(api, headers, content)

        got = code_of(answer)
        assert got == (400, code or got[1]), (content[:50], answer.text)
        assert said in answer.json()["error"], content[:50]
        assert len(answer.content) < 1_000
    assert api.index.queries == []


async def test_too_many_sources_to_search_are_refused(api: Api) -> None:
    headers = await api.setup()
    body = {"query": "a", "source_ids": [str(uuid4()) for _ in range(101)]}

    answer = await api.client.post(SEARCH, headers=headers, json=body)

    assert code_of(answer) == (400, "bad-field")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_body_of_another_type_is_refused(api: Api, kind: str | None) -> None:
    """A page elsewhere could send these from a browser without asking; not JSON."""
    headers = {"Content-Type": kind} if kind else {}

    answer = await api.client.post(
        "/api/v1/setup", headers=headers, content=json.dumps(ADMIN).encode()
    )

    assert code_of(answer) == (415, "not-json")
    assert await api.services.accounts.is_set_up() is False


BAD_QUERY_STRINGS = [
    ("", "bad-field"),
    ("?q=", "empty-query"),
    ("?q=a&limit=x", "bad-field"),
    ("?q=a&limit=-1", "bad-limit"),
    ("?q=a&limit=1000000000", "bad-limit"),
    ("?q=a&limit=1&limit=2", "bad-field"),
    ("?q=a&colour=red", "unknown-field"),
    ("?q=%00", "bad-field"),
    ("?q=a&mode=magic", "bad-field"),
    ("?q=a&source_ids=x", "bad-field"),
    ("?q=" + "x" * 60_000, "query-too-long"),
    ("?q=a&types=", "bad-types"),
    ("?q=a&types=text/*&types=text", "bad-types"),
    ("?q=a&modified_from=2026-11-01", "bad-field"),
    ("?q=a&modified_from=1793534400", "bad-field"),
    ("?q=a&modified_before=2026-11-01T00:00:00%2B99:00", "bad-field"),
    ("?q=a&modified_before=x&modified_before=y", "bad-field"),
    ("?q=a&path=%00", "bad-field"),
    ("?q=a&path=a&path=b", "bad-field"),
    ("?q=a&path=" + "x" * 4_097, "bad-path"),
]


async def test_bad_query_string_is_explained(api: Api) -> None:
    headers = await api.setup()

    for query, code in BAD_QUERY_STRINGS:
        answer = await api.client.get(SEARCH + query, headers=headers)

        assert code_of(answer) == (400, code), query[:50]
    assert api.index.queries == []


async def test_lists_have_bounds(api: Api) -> None:
    headers = await api.setup()
    url = f"/api/v1/sources/{await api.source(headers)}/documents"

    for query in ("limit=0", "limit=-1", "limit=101", "limit=1000000000"):
        answer = await api.client.get(f"{url}?{query}", headers=headers)
        assert code_of(answer) == (400, "bad-field")
        assert "1 to 100" in answer.json()["error"]
    for query in ("offset=-1", "offset=" + "9" * 30, "limit=x", "limit="):
        answer = await api.client.get(f"{url}?{query}", headers=headers)
        assert code_of(answer) == (400, "bad-field")
    assert code_of(await api.client.get(f"{url}?a=b", headers=headers)) == (400, "unknown-field")


NOWHERE = [
    "/",
    "/nothing",
    "/api/v1",
    "/api/v1/",
    "//",
    "/api/v1//me",
    "/api/v1/oauth/callback",
    "/api/v1/me/",
    "/admin/vespa",
    "/api/v1/settings/nothing",
    "/static/x",
    "/%00",
    "/%ff",
    "/../../etc/passwd",
]


async def test_unknown_address_is_a_clear_404(api: Api) -> None:
    for path in NOWHERE:
        assert code_of(await api.client.get(path)) == (404, "not-found"), path


async def test_wrong_method_names_the_right_ones(api: Api) -> None:
    answer = await api.client.post("/api/v1/me")
    odd = await api.client.request("BREW", "/api/v1/search")

    assert code_of(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert code_of(odd) == (405, "method-not-allowed")
    assert odd.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_body_over_the_limit_is_refused(api: Api) -> None:
    headers = await api.setup()

    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    typed = {**headers, "Content-Type": "application/json"}
    declared = await post(api, headers, b" " * 2_000_000)
    streamed = await api.client.post(SEARCH, headers=typed, content=chunks())

    assert code_of(declared) == (413, "body-too-large")
    assert code_of(streamed) == (413, "body-too-large")


class BrokenIndex:
    """Fails every search as the test wants."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Unavailable("PostgreSQL is away", retry_after=2.4), 503, "unavailable", "3"),
        (Transient("busy"), 503, "transient", "1"),
        (ExceptionGroup("in a nursery", [Unavailable("away")]), 503, "unavailable", "1"),
        (ExceptionGroup("o", [ExceptionGroup("i", [Transient("t")])]), 503, "transient", "1"),
    ],
)
async def test_passing_failure_says_when_to_come_again(
    api: Api, error: BaseException, status: int, code: str, retry_after: str
) -> None:
    headers = await api.setup()
    api.index.search = BrokenIndex(error)

    answer = await api.client.post(SEARCH, headers=headers, json={"query": "a"})

    assert code_of(answer) == (status, code)
    assert answer.headers["retry-after"] == retry_after


@pytest.mark.parametrize(
    "error", [RuntimeError("secret detail"), ExceptionGroup("x", [ValueError("secret detail")])]
)
async def test_unexpected_failure_tells_the_log_and_not_the_caller(
    api: Api, error: BaseException
) -> None:
    headers = await api.setup()
    api.index.search = BrokenIndex(error)

    with capture_logs() as logs:
        answer = await api.client.post(
            SEARCH, headers={**headers, "X-Request-Id": "abc-1"}, json={"query": "a"}
        )

    assert code_of(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "abc-1"
    [failed] = [log for log in logs if log["event"] == "request.failed"]
    assert "secret detail" in repr(failed["exc_info"])
    [finished] = [log for log in logs if log["event"] == "request.finished"]
    assert (finished["route"], finished["status"]) == ("/api/v1/search", 500)


async def test_request_that_takes_too_long_is_given_up(postgres_url: str, tmp_path: Path) -> None:
    was_cancelled = trio.Event()

    async def forever(query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        try:
            await trio.sleep_forever()
        finally:
            was_cancelled.set()
        raise AssertionError

    async with open_api(postgres_url, tmp_path, options=ApiOptions(request_time=1.0)) as api:
        headers = await api.setup()
        api.index.search = forever
        answer = await api.client.post(SEARCH, headers=headers, json={"query": "a"})

    assert code_of(answer) == (503, "request-timeout")
    assert answer.headers["retry-after"]
    assert was_cancelled.is_set()


async def test_log_line_has_the_route_and_not_the_query(api: Api) -> None:
    headers = await api.setup()

    with capture_logs() as logs:
        await api.client.get(f"{SEARCH}?q=hidden-word", headers=headers)
        await api.client.get("/hidden-word")

    assert [log["route"] for log in logs if log["event"] == "request.finished"] == [SEARCH, "none"]
    assert "hidden-word" not in repr(logs)


@pytest.mark.parametrize(
    ("given", "is_kept"), [("abc-1.2:3_4", True), ("a b", False), ("x" * 65, False), ("", False)]
)
async def test_request_id_is_kept_where_it_is_sane(api: Api, given: str, is_kept: bool) -> None:
    answer = await api.client.get("/version", headers={"X-Request-Id": given})

    assert (answer.headers["x-request-id"] == given) is is_kept
    assert answer.headers["x-request-id"]


async def test_answers_carry_security_headers(api: Api) -> None:
    for path in ("/version", "/nothing", "/metrics", "/api/v1/me"):
        headers = (await api.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in headers


async def test_cors_lets_in_the_origins_of_the_settings(postgres_url: str, tmp_path: Path) -> None:
    options = ApiOptions(cors_allowed_origins=("https://app.example.org",))
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    ours, other = {"Origin": "https://app.example.org"}, {"Origin": "https://evil.example.org"}

    async with open_api(postgres_url, tmp_path, options=options) as api:
        preflight = await api.client.options(SEARCH, headers={**ours, **asked})
        refused = await api.client.options(SEARCH, headers={**other, **asked})
        problem = await api.client.get("/api/v1/me", headers=ours)
        stranger = await api.client.get("/version", headers=other)

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == ours["Origin"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in refused.headers
    assert "access-control-allow-methods" not in refused.headers
    assert problem.status_code == 401
    assert problem.headers["access-control-allow-origin"] == ours["Origin"]
    assert (problem.headers["vary"], stranger.headers["vary"]) == ("Origin", "Origin")
    assert "access-control-allow-origin" not in stranger.headers
