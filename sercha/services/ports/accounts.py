"""Users, sessions, passwords and tokens; the processes that live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sercha.domain.account import TeamSettings, User
from sercha.services.ports.database import Transaction


class AccountStore(Protocol):
    """Users, sessions and the team's settings."""

    async def user_count(self, tx: Transaction | None = None) -> int: ...

    async def add_user(self, tx: Transaction, user: User, password_hash: str) -> None:
        """Raises `Conflict` when the email is taken."""
        ...

    async def lock_setup(self, tx: Transaction) -> None:
        """Let one first set-up at a time go on, until *tx* ends."""
        ...

    async def user(self, user_id: UUID) -> User | None: ...

    async def users(self) -> list[User]: ...

    async def credentials(self, email: str) -> tuple[User, str] | None:
        """The user and the password's hash."""
        ...

    async def remove_user(self, tx: Transaction, user_id: UUID) -> bool: ...

    async def count_admins(self, tx: Transaction) -> int: ...

    async def start_session(
        self, user_id: UUID, session_id: UUID, refresh_hash: bytes, expires_at: datetime
    ) -> None:
        """Keep a session and note the log-in."""
        ...

    async def rotate_session(
        self, refresh_hash: bytes, new_hash: bytes, expires_at: datetime
    ) -> tuple[UUID, User] | None:
        """Replace a valid refresh token; (session id, user), or None when it is not valid."""
        ...

    async def session_user(self, session_id: UUID) -> User | None:
        """The active user of a live session."""
        ...

    async def end_session(self, session_id: UUID) -> None: ...

    async def settings(self) -> TeamSettings: ...

    async def save_settings(self, tx: Transaction, settings: TeamSettings) -> None: ...


class Passwords(Protocol):
    """Slow hashes of passwords, made off the loop, few at a time (each takes much memory)."""

    async def hash(self, password: str) -> str:
        """Return a salted hash with its parameters. Cancellation waits for the thread."""
        ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; None (no such user) takes as long as a wrong password."""
        ...


class Tokens(Protocol):
    """Signed tokens that name a session; whether it still lives only the store knows."""

    def issue(
        self, user: User, session_id: UUID, *, issued_at: datetime, expires_at: datetime
    ) -> str:
        """Return a signed token."""
        ...

    def session_of(self, token: str) -> UUID:
        """Return the session that a token names.

        Raises:
            Unauthenticated: not ours, forged, or past its end (``token-expired``).
        """
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """A process that is alive, or was."""

    id: UUID
    role: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class RunningTask:
    """What a node is doing."""

    task_id: UUID
    kind: str
    attempt: int
    claimed_at: datetime
    source_id: UUID | None = None
    """The source that the task is about, if it is about one that is still there."""
    source_name: str | None = None
    items_done: int | None = None
    """How far a sync is; of how many is not always known."""
    items_expected: int | None = None


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node, whether it is alive, and what it is doing."""

    node: Node
    is_alive: bool
    running: tuple[RunningTask, ...] = ()


class NodeStore(Protocol):
    """Who lives, and what each does."""

    async def beat(self, node: Node) -> None: ...

    async def leave(self, node_id: UUID) -> None: ...

    async def list(self) -> list[NodeState]:
        """All nodes, the newest first."""
        ...
