"""What every `AccountStore` promises; PostgreSQL is the only one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.domain.account import Role, User
from sercha.errors import Conflict
from sercha.services.ports import AccountStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)
EARLIER = datetime.now(UTC) - timedelta(seconds=1)


@dataclass
class Room:
    pool: ConnectionPool
    store: AccountStore

    async def add(self, email: str, role: Role = Role.MEMBER) -> User:
        user = User(uuid4(), email, "A Name", role, True, uuid4(), NOW, NOW)
        async with self.pool.transaction() as tx:
            await self.store.add_user(tx, user, f"hash of {email}")
        return user

    async def session(self, user: User, token: bytes, expires_at: datetime = LATER) -> UUID:
        session_id = uuid4()
        await self.store.start_session(user.id, session_id, token, expires_at)
        return session_id

    async def disable(self, user: User) -> None:
        async with self.pool.connection() as connection:
            await connection.execute("UPDATE account SET active = false WHERE id = %s", [user.id])


@pytest.fixture
async def room(postgres_url: str) -> AsyncGenerator[Room]:
    async with open_pool(postgres_url) as pool:
        await migrate(pool)
        yield Room(pool, PostgresAccountStore(pool))


async def test_user_comes_back_as_it_was_added(room: Room) -> None:
    user = await room.add("b@x")
    first = await room.add("a@x", Role.ADMIN)

    assert await room.store.user(user.id) == user
    assert await room.store.users() == [first, user]
    assert await room.store.credentials("b@x") == (user, "hash of b@x")
    assert await room.store.credentials("c@x") is None
    assert await room.store.user(uuid4()) is None
    assert await room.store.user_count() == 2


async def test_taken_email_is_a_conflict_and_adds_nothing(room: Room) -> None:
    await room.add("a@x")

    with pytest.raises(Conflict) as caught:
        await room.add("a@x")

    assert caught.value.error_code == "user-exists"
    assert await room.store.user_count() == 1


async def test_user_added_in_a_transaction_that_fails_is_not_there(room: Room) -> None:
    user = User(uuid4(), "a@x", "A", Role.ADMIN, True, uuid4(), NOW, NOW)

    with pytest.raises(ZeroDivisionError):
        async with room.pool.transaction() as tx:
            await room.store.add_user(tx, user, "hash")
            assert await room.store.user_count(tx) == 1
            assert await room.store.user_count() == 0
            raise ZeroDivisionError

    assert await room.store.user_count() == 0


async def test_one_setup_at_a_time_goes_on(room: Room) -> None:
    inside: list[int] = []

    async def setup() -> None:
        async with room.pool.transaction() as tx:
            await room.store.lock_setup(tx)
            inside.append(1)
            await trio.sleep(0.02)
            assert len(inside) == 1
            inside.clear()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(setup)


async def test_session_names_its_user_until_it_ends(room: Room) -> None:
    user = await room.add("a@x")
    session_id = await room.session(user, b"1")
    expired_id = await room.session(user, b"2", EARLIER)

    found = await room.store.session_user(session_id)
    assert found is not None
    assert found.last_login_at is not None
    assert replace(found, last_login_at=None) == user
    assert await room.store.session_user(expired_id) is None
    assert await room.store.session_user(uuid4()) is None

    await room.store.end_session(session_id)
    await room.store.end_session(session_id)
    assert await room.store.session_user(session_id) is None


async def test_sessions_of_users_who_are_disabled_or_removed_name_nobody(room: Room) -> None:
    disabled, removed = await room.add("a@x"), await room.add("b@x")
    first, second = await room.session(disabled, b"1"), await room.session(removed, b"2")

    await room.disable(disabled)
    async with room.pool.transaction() as tx:
        assert await room.store.remove_user(tx, removed.id) is True
        assert await room.store.remove_user(tx, removed.id) is False

    assert await room.store.session_user(first) is None
    assert await room.store.session_user(second) is None
    assert await room.store.rotate_session(b"1", b"3", LATER) is None
    assert await room.store.rotate_session(b"2", b"3", LATER) is None


async def test_refresh_token_is_replaced_once(room: Room) -> None:
    user = await room.add("a@x")
    session_id = await room.session(user, b"old")
    await room.session(user, b"expired", EARLIER)
    outcomes: list[bool] = []

    async def rotate(new: bytes) -> None:
        outcomes.append(await room.store.rotate_session(b"old", new, LATER) is not None)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(rotate, b"new%d" % number)

    assert sorted(outcomes) == [False] * 4 + [True]
    assert await room.store.rotate_session(b"old", b"x", LATER) is None
    assert await room.store.rotate_session(b"expired", b"x", LATER) is None
    winners = [
        rotated
        for number in range(5)
        if (rotated := await room.store.rotate_session(b"new%d" % number, b"last", LATER))
    ]
    [(found_id, found)] = winners
    assert (found_id, found.id) == (session_id, user.id)


async def test_log_in_forgets_sessions_that_have_ended(room: Room) -> None:
    user, other = await room.add("a@x"), await room.add("b@x")
    await room.session(user, b"1", EARLIER)
    await room.session(other, b"2", EARLIER)
    await room.session(user, b"3")

    async with room.pool.connection() as connection:
        cursor = await connection.execute("SELECT refresh_hash FROM session ORDER BY 1")
        assert [bytes(row[0]) for row in await cursor.fetchall()] == [b"2", b"3"]


async def test_counting_administrators_keeps_them_as_they_are(room: Room) -> None:
    admins = [await room.add("a@x", Role.ADMIN), await room.add("b@x", Role.ADMIN)]
    await room.add("c@x")
    await room.disable(await room.add("d@x", Role.ADMIN))
    counts: list[int] = []

    async def remove(user: User) -> None:
        async with room.pool.transaction() as tx:
            counts.append(await room.store.count_admins(tx))
            await trio.sleep(0.02)
            await room.store.remove_user(tx, user.id)

    async with trio.open_nursery() as nursery:
        for user in admins:
            nursery.start_soon(remove, user)

    assert sorted(counts) == [1, 2]


async def test_settings_are_there_from_the_start_and_are_kept(room: Room) -> None:
    settings = await room.store.settings()
    user = await room.add("a@x")
    changed = replace(
        settings,
        default_search_mode="hybrid",
        results_per_page=7,
        sync_enabled=False,
        sync_interval_minutes=5,
        semantic_search_enabled=True,
        auto_suggest_enabled=True,
        updated_by=user.id,
    )

    async with room.pool.transaction() as tx:
        await room.store.save_settings(tx, changed)

    saved = await room.store.settings()
    assert saved.updated_at > settings.updated_at
    assert replace(saved, updated_at=changed.updated_at) == changed
