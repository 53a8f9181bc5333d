"""Which requests are the same one, which answers are kept, how, and for how long."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.domain.account import Role
from sercha.roles.api.operations import UNSAFE_METHODS, operation_of
from tests.support.api import ADMIN, Api, open_api
from tests.support.api_pair import KEY, REPLAYED, USER, Pair, code, open_pair, told
from tests.support.connections import connected, value_of


@pytest.fixture
async def pair(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Pair]:
    async with open_pair(postgres_url, tmp_path) as pair:
        yield pair


# --- What is the same request ----------------------------------------------------------------------------


async def test_a_key_with_another_body_is_refused(pair: Pair) -> None:
    first = await pair.add(pair.one, "a")
    other = await pair.add(pair.two, "a", email="c@example.org")
    again = await pair.add(pair.two, "a")

    assert code(other) == (422, "idempotency-key-reused")
    assert told(again) == (201, first.content, True)
    assert await pair.users() == 2


async def test_the_same_key_of_another_user_method_or_path_is_another_request(pair: Pair) -> None:
    other = await pair.one.user(Role.ADMIN)
    source = await pair.one.source(pair.admin)
    path = f"/api/v1/sources/{source}"

    mine = await pair.add(pair.one, "a")
    theirs = await pair.two.client.post("/api/v1/users", headers={**other, KEY: "a"}, json=USER)
    disabled = await pair.two.client.post(f"{path}/disable", headers={**pair.admin, KEY: "a"})
    renamed = await pair.one.client.put(
        path, headers={**pair.admin, KEY: "a"}, json={"name": "other"}
    )
    removed = await pair.two.client.delete(path, headers={**pair.admin, KEY: "a"})

    assert (mine.status_code, code(theirs)) == (201, (409, "user-exists"))
    assert (disabled.status_code, renamed.status_code, removed.status_code) == (200, 200, 200)
    assert all(REPLAYED not in each.headers for each in (theirs, disabled, renamed, removed))


async def test_a_replay_needs_the_log_in_of_its_user(pair: Pair) -> None:
    await pair.add(pair.one, "a")
    stranger = await pair.two.client.post("/api/v1/users", headers={KEY: "a"}, json=USER)

    assert code(stranger) == (401, "unauthenticated")


@pytest.mark.parametrize("key", ["", " ", "with space", "ä".encode(), "x" * 256, b"\x7f"])
async def test_a_malformed_key_is_refused(pair: Pair, key: str | bytes) -> None:
    headers = [(name.encode(), value.encode()) for name, value in pair.admin.items()]
    raw = key.encode() if isinstance(key, str) else key
    answer = await pair.one.client.post(
        "/api/v1/users", headers=[*headers, (KEY.encode(), raw)], json=USER
    )

    assert code(answer) == (400, "bad-idempotency-key")
    assert await pair.users() == 1


async def test_any_key_and_any_path_that_may_be_sent_can_be_kept(pair: Pair) -> None:
    key = "~!\"'%\\" + "x" * 249
    # No index of PostgreSQL holds an entry of 2,700 bytes that cannot be compressed.
    for name in ("%00", "ä", secrets.token_hex(4_000)):
        path = f"/api/v1/tasks/{name}/cancel"
        for is_replayed in (False, True):
            answer = await pair.one.client.post(path, headers={**pair.admin, KEY: key})
            assert code(answer) == (404, "task-not-found")
            assert (REPLAYED in answer.headers) == is_replayed


# --- What is kept ----------------------------------------------------------------------------------------


async def test_a_refusal_is_an_answer_too(pair: Pair) -> None:
    await pair.one.client.post("/api/v1/users", headers=pair.admin, json=USER)
    first = await pair.add(pair.one, "a", name="Other")
    await pair.value("DELETE FROM account WHERE email = %s RETURNING 1", USER["email"])
    again = await pair.add(pair.two, "a", name="Other")

    assert code(first) == (409, "user-exists")
    assert told(again) == (409, first.content, True)
    assert await pair.users() == 1


async def test_what_a_refused_request_had_done_is_undone(pair: Pair) -> None:
    source = await pair.one.source(pair.admin)
    await pair.one.client.post(f"/api/v1/sources/{source}/disable", headers=pair.admin)
    before = await pair.value("SELECT count(*) FROM task")

    refused = await pair.one.client.post(
        f"/api/v1/sources/{source}/sync", headers={**pair.admin, KEY: "a"}
    )

    assert code(refused) == (409, "source-disabled")
    assert await pair.value("SELECT count(*) FROM task") == before


async def test_a_passing_failure_is_not_kept(pair: Pair) -> None:
    answers: list[httpx.Response] = []

    async def first() -> None:
        answers.append(await pair.add(pair.one, "a"))

    async with trio.open_nursery() as nursery, pair.held("account"):
        nursery.start_soon(first)
        # Again and again: one lost connection is made good without a word.
        while not answers:
            await pair.value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE wait_event = 'relation' AND datname = current_database()"
            )
            await trio.sleep(0.05)
    again = await pair.add(pair.two, "a")

    assert code(answers[0]) == (503, "database-unavailable")
    assert told(again) == (201, again.content, False)
    assert await pair.users() == 2


async def test_strangers_leave_nothing_behind(pair: Pair) -> None:
    """What needs no log-in keeps successes only: nobody fills the table with refusals."""
    kept = "SELECT count(*) FROM idempotency_key"
    before = await pair.value(kept)
    for number in range(3):
        await pair.one.client.post("/api/v1/setup", json={**ADMIN, "name": f"A{number}"})
        await pair.one.client.post(
            "/api/v1/auth/refresh", json={"refresh_token": f"{number}"}, headers={KEY: "a"}
        )
        await pair.one.client.post(
            "/api/v1/auth/login",
            json={"email": f"{number}@example.org", "password": "wrong horse"},
            headers={KEY: f"{number}"},
        )

    assert await pair.value(kept) == before


async def test_an_answer_expires(pair: Pair) -> None:
    first = await pair.add(pair.one, "a")
    hours = "SELECT extract(epoch FROM expires_at - created_at) / 3600 FROM idempotency_key WHERE key = 'a'"
    assert round(await pair.value(hours), 3) == 24
    await pair.value(
        "UPDATE idempotency_key SET expires_at = now() - interval '1 s' WHERE key = 'a' RETURNING 1"
    )
    anew = await pair.add(pair.two, "a")
    again = await pair.add(pair.one, "a")

    assert first.status_code == 201
    assert code(anew) == (409, "user-exists")
    assert told(again) == (409, anew.content, True)


async def test_expired_answers_are_pruned_and_others_are_kept(pair: Pair) -> None:
    for number in range(5):
        await pair.add(pair.one, f"{number}", email=f"{number}@example.org")
    await pair.value(
        "UPDATE idempotency_key SET expires_at = now() - interval '1 s'"
        " WHERE key IN ('0', '1', '2') RETURNING 1"
    )
    store = PostgresRetentionStore(pair.one.pool)

    assert [await store.remove_answers(limit=2) for _ in range(3)] == [2, 1, 0]
    left = "SELECT array_agg(key ORDER BY key) FROM idempotency_key WHERE length(key) = 1"
    assert await pair.value(left) == ["3", "4"]


# --- Secrets ---------------------------------------------------------------------------------------------


async def test_nothing_readable_is_at_rest(pair: Pair) -> None:
    login = await pair.one.client.post(
        "/api/v1/auth/login",
        json={"email": ADMIN["email"], "password": ADMIN["password"]},
        headers={KEY: "login"},
    )
    session = login.json()
    refreshed = await pair.one.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": session["refresh_token"]}
    )
    hidden = [ADMIN["password"], ADMIN["email"], session["token"], session["refresh_token"]]
    hidden += [refreshed.json()[name] for name in ("token", "refresh_token")]
    async with connected(pair.url) as watcher:
        cursor = await watcher.execute("SELECT * FROM idempotency_key")
        rows = await cursor.fetchall()

    stored = b"\0".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )
    assert len(rows) == 3  # with the set-up
    assert not [each for each in hidden if each.encode() in stored]


async def test_a_log_in_that_is_repeated_with_its_key_is_one_session(pair: Pair) -> None:
    body = {"email": ADMIN["email"], "password": ADMIN["password"]}
    before = await pair.value("SELECT count(*) FROM session")
    answers = [
        await api.client.post("/api/v1/auth/login", json=body, headers={KEY: "login"})
        for api in (pair.one, pair.two)
    ]
    stranger = await pair.two.client.post(
        "/api/v1/auth/login", json={**body, "password": "guess"}, headers={KEY: "login"}
    )

    assert answers[0].content == answers[1].content
    assert await pair.value("SELECT count(*) FROM session") == before + 1
    assert code(stranger) == (422, "idempotency-key-reused")


async def test_with_another_master_key_the_effect_does_not_take_place_again(
    pair: Pair, tmp_path: Path
) -> None:
    await pair.add(pair.one, "a")
    async with open_api(
        pair.url, tmp_path, master_key=b"another master key, 32 bytes...!"
    ) as other:
        answers = [
            await pair.add(other, "a"),
            await pair.add(other, "a", email="c@example.org"),
        ]

    assert [code(answer) for answer in answers] == [(409, "idempotency-answer-unreadable")] * 2
    assert await pair.users() == 2


async def test_an_answer_moved_to_another_key_does_not_open(pair: Pair) -> None:
    await pair.add(pair.one, "a")
    await pair.value("UPDATE idempotency_key SET key = 'b' WHERE key = 'a' RETURNING 1")

    assert code(await pair.add(pair.two, "b")) == (409, "idempotency-answer-unreadable")


# --- Requests that are known by their body ---------------------------------------------------------------


async def test_a_refresh_can_be_repeated_for_a_minute(pair: Pair) -> None:
    credentials = {"email": ADMIN["email"], "password": ADMIN["password"]}
    session = (await pair.one.client.post("/api/v1/auth/login", json=credentials)).json()
    body = {"refresh_token": session["refresh_token"]}

    async def refresh(api: Api, key: str | None = None) -> httpx.Response:
        headers = {KEY: key} if key else {}
        return await api.client.post("/api/v1/auth/refresh", json=body, headers=headers)

    first = await refresh(pair.one)
    again = [await refresh(pair.two), await refresh(pair.one, "a"), await refresh(pair.two, "b")]
    new = first.json()
    me = await pair.two.client.get(
        "/api/v1/me", headers={"Authorization": f"Bearer {new['token']}"}
    )
    seconds = "SELECT extract(epoch FROM expires_at - created_at) FROM idempotency_key WHERE path ~ 'refresh$'"
    kept = await pair.value(seconds)
    await pair.value("UPDATE idempotency_key SET expires_at = now() RETURNING 1")
    late = await refresh(pair.two)

    assert told(first) == (200, first.content, False)
    assert [told(answer) for answer in again] == [(200, first.content, True)] * 3
    assert me.status_code == 200
    assert round(kept, 2) == 60
    assert code(late) == (401, "bad-refresh-token")


async def test_a_set_up_can_be_repeated_by_who_knows_all_of_it(
    postgres_url: str, tmp_path: Path
) -> None:
    async with open_api(postgres_url, tmp_path) as one, open_api(postgres_url, tmp_path) as two:
        answers: list[httpx.Response] = []

        async def setup(api: Api) -> None:
            answers.append(await api.client.post("/api/v1/setup", json=ADMIN))

        async with trio.open_nursery() as nursery:
            for api in (one, two, one):
                nursery.start_soon(setup, api)
        other = await two.client.post("/api/v1/setup", json={**ADMIN, "password": "wrong horse"})

        assert [told(answer)[:2] for answer in answers] == [(201, answers[0].content)] * 3
        assert code(other) == (403, "already-set-up")
        async with connected(postgres_url) as watcher:
            assert await value_of(watcher, "SELECT count(*) FROM account") == 1


# --- Which operations ------------------------------------------------------------------------------------


async def test_operations_that_change_nothing_ignore_the_key(pair: Pair) -> None:
    headers = {**pair.admin, KEY: "with space"}
    answer = await pair.one.client.post("/api/v1/search", headers=headers, json={"query": "tea"})

    assert answer.status_code == 200


async def test_the_description_says_who_takes_a_key(pair: Pair) -> None:
    document = (await pair.one.client.get("/openapi.json")).json()
    without = set[str]()
    for rule in pair.one.app.url_map.iter_rules():
        declared = operation_of(pair.one.app.view_functions[rule.endpoint])
        for method in (rule.methods or set()) & UNSAFE_METHODS if declared else ():
            path = rule.rule.replace("<", "{").replace(">", "}")
            described = document["paths"][path][method.lower()]
            takes_key = any(each["name"] == KEY for each in described["parameters"])
            assert takes_key == declared.takes_key  # type: ignore[union-attr]
            assert not takes_key or {"400", "409", "422", "503"} <= described["responses"].keys()
            if not takes_key:
                without.add(f"{method} {path.removeprefix('/api/v1')}")

    assert without == {
        "POST /setup",
        "POST /auth/refresh",
        "POST /search",
        "POST /admin/index/verify",
        "POST /admin/index/rebuild",
        "POST /admin/vespa/connect",
        "POST /leases/{lease_name}/release",
        "POST /settings/ai/test",
    }


async def test_users_that_do_not_exist_are_told_so_again(pair: Pair) -> None:
    path, headers = f"/api/v1/users/{uuid4()}", {**pair.admin, KEY: "a"}
    first = await pair.one.client.delete(path, headers=headers)
    again = await pair.two.client.delete(path, headers=headers)

    assert code(first) == (404, "user-not-found")
    assert told(again) == (404, first.content, True)
