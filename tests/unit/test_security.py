"""Passwords, tokens, and the slowing down of guesses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from sercha.adapters.security.passwords import Argon2Passwords
from sercha.adapters.security.tokens import JwtTokens
from sercha.domain.account import Role, User
from sercha.errors import Transient, Unauthenticated
from sercha.services.login_attempts import ADDRESSES_MAX, FREE_FAILURES, WAIT_CAP, LoginAttempts

NOW = datetime.now(UTC)
USER = User(uuid4(), "a@x", "A", Role.ADMIN, True, uuid4(), NOW, NOW)


async def test_password_fits_its_own_hash_only() -> None:
    passwords = Argon2Passwords()

    first, second = await passwords.hash("correct horse"), await passwords.hash("correct horse")

    assert first.startswith("$argon2id$")
    assert first != second
    assert await passwords.verify(first, "correct horse") is True
    assert await passwords.verify(first, "correct horsf") is False
    assert await passwords.verify("no hash", "correct horse") is False
    assert await passwords.verify(None, "nobody has this password") is False


async def test_unknown_user_takes_a_hash_of_the_same_cost() -> None:
    passwords = Argon2Passwords()
    await passwords.verify(None, "x")

    assert passwords._dummy_hash is not None
    parameters = [
        each.rsplit("$", 2)[0] for each in (passwords._dummy_hash, await passwords.hash("x"))
    ]
    assert parameters[0] == parameters[1]


async def test_hashing_leaves_the_loop_free() -> None:
    passwords = Argon2Passwords()
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(passwords.hash, "correct horse")
        await trio.testing.wait_all_tasks_blocked()
        statistics = passwords._limiter.statistics()
        assert (statistics.borrowed_tokens, statistics.tasks_waiting) == (2, 4)


def test_token_names_its_session_to_those_with_the_secret() -> None:
    tokens, session_id = JwtTokens("secret"), uuid4()
    now = datetime.now(UTC)  # not NOW: the suite may take longer than the token lives
    token = tokens.issue(USER, session_id, issued_at=now, expires_at=now + timedelta(minutes=5))

    assert JwtTokens("secret").session_of(token) == session_id
    with pytest.raises(Unauthenticated) as caught:
        JwtTokens("Secret").session_of(token)
    assert caught.value.error_code == "bad-token"


@pytest.mark.parametrize(("age", "code"), [(60, "token-expired"), (5, None)])
def test_token_ends_with_little_leeway(age: int, code: str | None) -> None:
    tokens = JwtTokens("secret")
    end = datetime.now(UTC) - timedelta(seconds=age)
    token = tokens.issue(USER, uuid4(), issued_at=end - timedelta(minutes=5), expires_at=end)

    if code is None:
        tokens.session_of(token)
        return
    with pytest.raises(Unauthenticated) as caught:
        tokens.session_of(token)
    assert caught.value.error_code == code


async def test_failures_in_a_row_cost_time(autojump_clock: MockClock) -> None:
    attempts = LoginAttempts()
    waits: list[float | None] = []
    for _ in range(FREE_FAILURES - 1):
        attempts.fail("a@x")
    for _ in range(8):
        attempts.check("a@x")
        attempts.fail("a@x")
        with pytest.raises(Transient) as caught:
            attempts.check("a@x")
        waits.append(caught.value.retry_after)
        await trio.sleep(waits[-1] or 0)
        attempts.check("b@x")

    assert waits == [1, 2, 4, 8, 16, WAIT_CAP, WAIT_CAP, WAIT_CAP]
    attempts.succeed("a@x")
    attempts.check("a@x")


async def test_attempts_forget_rather_than_grow() -> None:
    attempts = LoginAttempts()
    for number in range(ADDRESSES_MAX + 10):
        attempts.fail(f"{number}@x")

    assert len(attempts._records) == ADDRESSES_MAX
