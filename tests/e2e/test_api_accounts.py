"""Set-up, log-in, tokens, users and roles over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
import trio

from sercha.domain.account import Role
from tests.support.api import ADMIN, Api, open_api


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Api]:
    async with open_api(postgres_url, tmp_path) as opened:
        yield opened


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error", "code"}, body
    assert body["error"]
    return answer.status_code, body["code"]


async def test_setup_makes_the_first_administrator_once(api: Api) -> None:
    first = await api.client.post("/api/v1/setup", json=ADMIN)
    second = await api.client.post("/api/v1/setup", json={**ADMIN, "email": "bob@example.org"})

    assert first.status_code == 201
    user = first.json()["user"]
    assert (user["email"], user["role"], user["active"]) == ("ann@example.org", "admin", True)
    assert user["created_at"].endswith("Z")
    assert first.json()["message"]
    assert "password" not in first.text
    assert code_of(second) == (403, "already-set-up")


async def test_of_many_setups_at_once_one_succeeds(api: Api) -> None:
    statuses: list[int] = []

    async def attempt(number: int) -> None:
        body = {**ADMIN, "email": f"user{number}@example.org"}
        statuses.append((await api.client.post("/api/v1/setup", json=body)).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(attempt, number)

    assert sorted(statuses) == [201, 403, 403, 403, 403, 403]
    assert len(await api.services.accounts.users()) == 1


WRONG_FIELDS: list[tuple[dict[str, object], str]] = [
    ({"password": "short"}, "password"),
    ({"password": "x" * 1025}, "password"),
    ({"email": "nobody"}, "email"),
    ({"email": "a b@example.org"}, "email"),
    ({"email": "x" * 250 + "@example.org"}, "email"),
    ({"email": "änn@example.org"}, "email"),
    ({"name": "   "}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"name": 7}, "name"),
    ({"name": None}, "name"),
]


async def test_setup_names_the_wrong_field(api: Api) -> None:
    for change, field in WRONG_FIELDS:
        answer = await api.client.post("/api/v1/setup", json={**ADMIN, **change})

        assert code_of(answer) == (400, "bad-field"), change
        assert answer.json()["error"].startswith(f"{field}:")
    assert await api.services.accounts.is_set_up() is False


async def test_setup_token_is_demanded_where_it_is_set(postgres_url: str, tmp_path: Path) -> None:
    async with open_api(postgres_url, tmp_path, setup_token="s3cret") as api:
        missing = await api.client.post("/api/v1/setup", json=ADMIN)
        wrong = await api.client.post("/api/v1/setup", json={**ADMIN, "setup_token": "s3creT"})
        right = await api.client.post(
            "/api/v1/setup", json=ADMIN, headers={"X-Setup-Token": "s3cret"}
        )

        assert code_of(missing) == (403, "setup-token")
        assert code_of(wrong) == (403, "setup-token")
        assert right.status_code == 201


async def test_login_answers_as_the_go_program_does(api: Api) -> None:
    await api.setup()

    answer = await api.client.post(
        "/api/v1/auth/login", json={"email": " ANN@Example.org ", "password": "correct horse"}
    )

    assert answer.status_code == 200
    session = answer.json()
    assert set(session) == {"token", "refresh_token", "expires_at", "user"}
    assert set(session["user"]) == {"id", "email", "name", "role", "active", "last_login_at"}
    assert answer.headers["cache-control"] == "no-store"


WRONG_CREDENTIALS = [
    ("ann@example.org", "wrong horse"),
    ("nobody@example.org", "correct horse"),
    ("x" * 5000, "correct horse"),
    ("ann@example.org", "x" * 100_000),
    ("", ""),
]


async def test_wrong_credentials_get_one_answer(api: Api) -> None:
    await api.setup()

    for email, password in WRONG_CREDENTIALS:
        answer = await api.client.post(
            "/api/v1/auth/login", json={"email": email, "password": password}
        )

        assert code_of(answer) == (401, "bad-credentials"), email[:50]
        assert answer.json()["error"] == "email or password is wrong"
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_disabled_user_is_refused_and_loses_the_session(api: Api) -> None:
    headers = await api.setup()
    async with api.pool.connection() as connection:
        await connection.execute("UPDATE account SET active = false")

    login = await api.client.post(
        "/api/v1/auth/login", json={k: ADMIN[k] for k in ("email", "password")}
    )
    me = await api.client.get("/api/v1/me", headers=headers)

    assert code_of(login) == (401, "bad-credentials")
    assert code_of(me) == (401, "session-ended")


async def test_guessing_is_slowed_down(api: Api) -> None:
    await api.setup()
    body = {"email": ADMIN["email"], "password": "wrong horse"}
    answers = [await api.client.post("/api/v1/auth/login", json=body) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert code_of(answers[-1]) == (429, "too-many-attempts")
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_equal_refreshes_get_the_same_new_tokens(api: Api) -> None:
    await api.setup()
    credentials = {"email": ADMIN["email"], "password": ADMIN["password"]}
    session = (await api.client.post("/api/v1/auth/login", json=credentials)).json()
    body = {"refresh_token": session["refresh_token"]}

    answers: list[httpx.Response] = []

    async def refresh() -> None:
        answers.append(await api.client.post("/api/v1/auth/refresh", json=body))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(refresh)

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.content for answer in answers}) == 1
    new = answers[0].json()
    assert new["refresh_token"] != session["refresh_token"]
    headers = {"Authorization": f"Bearer {new['token']}"}
    assert (await api.client.get("/api/v1/me", headers=headers)).status_code == 200


async def test_logout_counts_at_once(api: Api) -> None:
    await api.setup()
    credentials = {"email": ADMIN["email"], "password": ADMIN["password"]}
    session = (await api.client.post("/api/v1/auth/login", json=credentials)).json()
    headers = {"Authorization": f"Bearer {session['token']}"}

    out = await api.client.post("/api/v1/auth/logout", headers=headers)
    me = await api.client.get("/api/v1/me", headers=headers)
    refreshed = await api.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": session["refresh_token"]}
    )

    assert (out.status_code, out.json()) == (200, {"status": "ok"})
    assert code_of(me) == (401, "session-ended")
    assert code_of(refreshed) == (401, "bad-refresh-token")


def _forged(claims: dict[str, Any], key: str | None, algorithm: str) -> str:
    return "Bearer " + jwt.encode(claims, key, algorithm=algorithm)


async def test_forged_and_broken_tokens_are_refused(api: Api) -> None:
    headers = await api.setup()
    claims = jwt.decode(headers["Authorization"][7:], options={"verify_signature": False})
    expired = {**claims, "iat": 0, "exp": 1}
    values = {
        "": "unauthenticated",
        "Basic abc": "unauthenticated",
        "Bearer": "unauthenticated",
        "Bearer ": "unauthenticated",
        "Bearer x.y.z": "bad-token",
        "Bearer " + "a" * 10_000: "bad-token",
        headers["Authorization"][:-2] + "xx": "bad-token",
        _forged(claims, "another key that is long enough for it", "HS256"): "bad-token",
        _forged(claims, None, "none"): "bad-token",
        _forged(expired, "another key that is long enough for it", "HS256"): "bad-token",
    }

    for value, code in values.items():
        answer = await api.client.get("/api/v1/me", headers={"Authorization": value})
        assert code_of(answer) == (401, code), value
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_token_past_its_end_says_so(api: Api) -> None:
    await api.setup()
    [user] = await api.services.accounts.users()
    tokens = api.services.accounts._tokens
    early = user.created_at - timedelta(days=1)
    token = tokens.issue(user, uuid4(), issued_at=early, expires_at=early + timedelta(minutes=1))

    answer = await api.client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})

    assert code_of(answer) == (401, "token-expired")


async def test_users_are_added_listed_and_removed(api: Api) -> None:
    headers = await api.setup()
    body = {"name": "Bob", "email": "Bob@example.org", "password": "correct horse"}

    made = await api.client.post("/api/v1/users", headers=headers, json={**body, "role": "viewer"})
    again = await api.client.post("/api/v1/users", headers=headers, json=body)
    wrong = await api.client.post("/api/v1/users", headers=headers, json={**body, "role": "king"})
    listed = await api.client.get("/api/v1/users", headers=headers)
    gone = await api.client.delete(f"/api/v1/users/{made.json()['id']}", headers=headers)
    missing = await api.client.delete(f"/api/v1/users/{made.json()['id']}", headers=headers)

    assert made.status_code == 201
    assert made.json()["role"] == "viewer"
    assert "last_login_at" not in made.json()
    assert code_of(again) == (409, "user-exists")
    assert code_of(wrong) == (400, "bad-field")
    assert "'admin', 'member' or 'viewer'" in wrong.json()["error"]
    assert [user["email"] for user in listed.json()] == ["ann@example.org", "bob@example.org"]
    assert (gone.status_code, gone.json()) == (200, {"status": "ok"})
    assert code_of(missing) == (404, "user-not-found")


async def test_last_administrator_stays(api: Api) -> None:
    headers = await api.setup()
    [ann] = await api.services.accounts.users()

    answer = await api.client.delete(f"/api/v1/users/{ann.id}", headers=headers)

    assert code_of(answer) == (409, "last-admin")


async def test_of_two_removals_of_the_last_administrators_one_fails(api: Api) -> None:
    headers = await api.setup()
    await api.user(Role.ADMIN)
    users = await api.services.accounts.users()
    outcomes: list[str] = []

    async def remove(user_id: UUID) -> None:
        try:
            await api.services.accounts.remove_user(user_id)
            outcomes.append("removed")
        except Exception as error:
            outcomes.append(getattr(error, "error_code", repr(error)))

    async with trio.open_nursery() as nursery:
        for user in users:
            nursery.start_soon(remove, user.id)

    assert sorted(outcomes) == ["last-admin", "removed"]
    assert headers


LEAST_ROLES = [
    ("/me", Role.VIEWER),
    ("/search?q=word", Role.VIEWER),
    ("/sources", Role.MEMBER),
    ("/users", Role.ADMIN),
    ("/settings", Role.ADMIN),
    ("/sources/sync-states", Role.ADMIN),
    ("/providers", Role.ADMIN),
    ("/admin/stats", Role.ADMIN),
    ("/admin/vespa/status", Role.ADMIN),
    ("/tasks", Role.ADMIN),
    ("/nodes", Role.ADMIN),
    ("/installations", Role.ADMIN),
]


async def test_roles_are_demanded(api: Api) -> None:
    order = [Role.VIEWER, Role.MEMBER, Role.ADMIN]
    await api.setup()
    headers = {role: await api.user(role) for role in order}

    for path, least in LEAST_ROLES:
        for role in order:
            answer = await api.client.get(f"/api/v1{path}", headers=headers[role])
            if order.index(role) >= order.index(least):
                assert answer.status_code == 200, (role, path, answer.text)
            else:
                assert code_of(answer) == (403, "role-required"), (role, path)
        assert code_of(await api.client.get(f"/api/v1{path}")) == (401, "unauthenticated")


async def test_settings_change_what_is_given(api: Api) -> None:
    headers = await api.setup()
    url = "/api/v1/settings"

    before = (await api.client.get(url, headers=headers)).json()
    changed = await api.client.put(
        url, headers=headers, json={"results_per_page": 7, "default_search_mode": "hybrid"}
    )
    wrong = await api.client.put(url, headers=headers, json={"results_per_page": 101})
    negative = await api.client.put(url, headers=headers, json={"sync_interval_minutes": -1})
    mode = await api.client.put(url, headers=headers, json={"default_search_mode": "magic"})

    assert before["results_per_page"] == 20
    assert changed.status_code == 200
    after = changed.json()
    assert (after["results_per_page"], after["default_search_mode"]) == (7, "hybrid")
    assert after["updated_by"]
    assert {**before, **after} == after
    assert code_of(wrong) == (400, "bad-field")
    assert "1 to 100" in wrong.json()["error"]
    assert code_of(negative) == (400, "bad-field")
    assert code_of(mode) == (400, "bad-field")
