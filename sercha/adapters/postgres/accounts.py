"""Users, their sessions and the team's settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.account import Role, TeamSettings, User
from sercha.errors import Conflict
from sercha.services.ports import Transaction

SETUP_LOCK = 0x5E4C_4A01
"""Key of the advisory lock that lets one first set-up at a time go on."""

_USER = "id, email, name, role, active, team_id, created_at, updated_at, last_login_at"
_SETTINGS = """team_id, default_search_mode, results_per_page, max_results_per_page, sync_enabled,
sync_interval_minutes, semantic_search_enabled, auto_suggest_enabled, updated_at, updated_by"""

_START_SESSION = """
WITH expired AS (
    DELETE FROM session WHERE account_id = %(user)s AND expires_at <= clock_timestamp()
), noted AS (
    UPDATE account SET last_login_at = clock_timestamp() WHERE id = %(user)s
)
INSERT INTO session (id, account_id, refresh_hash, expires_at)
VALUES (%(session)s, %(user)s, %(hash)s, %(expires_at)s)
"""

_ROTATE_SESSION = """
UPDATE session SET refresh_hash = %(new)s, expires_at = %(expires_at)s
FROM account
WHERE refresh_hash = %(old)s AND expires_at > clock_timestamp()
  AND account.id = session.account_id AND account.active
RETURNING session.id, {user}
"""

_SESSION_USER = """
SELECT {user} FROM session JOIN account ON account.id = session.account_id
WHERE session.id = %s AND session.expires_at > clock_timestamp() AND account.active
"""

_SAVE_SETTINGS = """
UPDATE team_settings SET default_search_mode = %s, results_per_page = %s, max_results_per_page = %s,
    sync_enabled = %s, sync_interval_minutes = %s, semantic_search_enabled = %s,
    auto_suggest_enabled = %s, updated_at = clock_timestamp(), updated_by = %s
"""


class PostgresAccountStore:
    """`sercha.services.ports.AccountStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def user_count(self, tx: Transaction | None = None) -> int:
        """Count users, active or not; within *tx* when it is given."""
        statement = "SELECT count(*) FROM account"
        if tx is None:
            return (await self._run(statement))[0][0]
        row = await (await connection_of(tx).execute(statement)).fetchone()
        assert row is not None
        return row[0]

    async def add_user(self, tx: Transaction, user: User, password_hash: str) -> None:
        """Add a user.

        Raises:
            Conflict: the email is taken (``user-exists``).
        """
        try:
            await connection_of(tx).execute(
                """INSERT INTO account (id, email, name, role, password_hash, active, team_id,
                                        created_at, updated_at)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
                [
                    user.id,
                    user.email,
                    user.name,
                    user.role,
                    password_hash,
                    user.active,
                    user.team_id,
                    user.created_at,
                    user.updated_at,
                ],
            )
        except UniqueViolation:
            raise Conflict(
                f"email: there is a user {user.email} already", code="user-exists"
            ) from None

    async def lock_setup(self, tx: Transaction) -> None:
        """Let one first set-up at a time go on, until *tx* ends."""
        await connection_of(tx).execute("SELECT pg_advisory_xact_lock(%s)", [SETUP_LOCK])

    async def user(self, user_id: UUID) -> User | None:
        """Return one user, or None."""
        return _user_or_none(
            await self._run(f"SELECT {_USER} FROM account WHERE id = %s", [user_id])
        )

    async def users(self) -> list[User]:
        """Return all users by email."""
        return [
            _user(row) for row in await self._run(f"SELECT {_USER} FROM account ORDER BY email")
        ]

    async def credentials(self, email: str) -> tuple[User, str] | None:
        """Return the user with the password's hash, active or not."""
        rows = await self._run(
            f"SELECT {_USER}, password_hash FROM account WHERE email = %s", [email]
        )
        return (_user(rows[0][:-1]), rows[0][-1]) if rows else None

    async def remove_user(self, tx: Transaction, user_id: UUID) -> bool:
        """Remove a user with all sessions; False when there is none."""
        cursor = await connection_of(tx).execute("DELETE FROM account WHERE id = %s", [user_id])
        return cursor.rowcount == 1

    async def count_admins(self, tx: Transaction) -> int:
        """Count active administrators and keep them as they are until *tx* ends."""
        cursor = await connection_of(tx).execute(
            "SELECT id FROM account WHERE role = 'admin' AND active ORDER BY id FOR UPDATE"
        )
        return len(await cursor.fetchall())

    async def start_session(
        self, user_id: UUID, session_id: UUID, refresh_hash: bytes, expires_at: datetime
    ) -> None:
        """Keep a session, note the log-in, and forget the user's sessions that have ended."""
        await self._execute(
            _START_SESSION,
            {
                "user": user_id,
                "session": session_id,
                "hash": refresh_hash,
                "expires_at": expires_at,
            },
        )

    async def rotate_session(
        self, refresh_hash: bytes, new_hash: bytes, expires_at: datetime
    ) -> tuple[UUID, User] | None:
        """Replace a valid refresh token; of several at once with the same one, one succeeds."""
        rows = await self._run(
            _ROTATE_SESSION.format(user=_of_account()),
            {"old": refresh_hash, "new": new_hash, "expires_at": expires_at},
        )
        return (rows[0][0], _user(rows[0][1:])) if rows else None

    async def session_user(self, session_id: UUID) -> User | None:
        """Return the active user of a live session."""
        return _user_or_none(
            await self._run(_SESSION_USER.format(user=_of_account()), [session_id])
        )

    async def end_session(self, session_id: UUID) -> None:
        """End a session; nothing happens when there is none."""
        await self._execute("DELETE FROM session WHERE id = %s", [session_id])

    async def settings(self) -> TeamSettings:
        """Return the team's settings."""
        rows = await self._run(f"SELECT {_SETTINGS} FROM team_settings")
        return TeamSettings(*rows[0])

    async def save_settings(self, tx: Transaction, settings: TeamSettings) -> None:
        """Write all settings; the time is the server's."""
        await connection_of(tx).execute(
            _SAVE_SETTINGS,
            [
                settings.default_search_mode,
                settings.results_per_page,
                settings.max_results_per_page,
                settings.sync_enabled,
                settings.sync_interval_minutes,
                settings.semantic_search_enabled,
                settings.auto_suggest_enabled,
                settings.updated_by,
            ],
        )

    async def _run(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()

    async def _execute(self, statement: Any, parameters: Any) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(statement, parameters)


def _of_account() -> str:
    return ", ".join(f"account.{column.strip()}" for column in _USER.split(","))


def _user(row: tuple[Any, ...]) -> User:
    return User(row[0], row[1], row[2], Role(row[3]), *row[4:])


def _user_or_none(rows: list[tuple[Any, ...]]) -> User | None:
    return _user(rows[0]) if rows else None
