"""Who may come in, and what they may do: set-up, log-in, sessions, users, the team's settings.

An access token lives for minutes and names a session; whether the session still lives is asked of the truth for
each request, so that a log-out counts at once and everywhere. Refresh tokens are random, kept only as hashes, and
each is good for one use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import structlog

from sercha.domain.account import Role, Session, TeamSettings, User
from sercha.domain.query import SearchMode
from sercha.errors import Conflict, Forbidden, NotFound, Rejected, Unauthenticated
from sercha.services.login_attempts import LoginAttempts
from sercha.services.names import checked_name
from sercha.services.ports import AccountStore, Clock, Database, Passwords, Tokens

TOKEN_TTL = timedelta(minutes=30)
SESSION_TTL = timedelta(days=30)
"""A session ends this long after its last refresh."""

PASSWORD_CHARS_MIN = 8
PASSWORD_CHARS_MAX = 1_024
EMAIL_CHARS_MAX = 254
SYNC_INTERVAL_MINUTES_MAX = 7 * 24 * 60

_EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+")
"""Printable ASCII around one ``@``: enough to catch a slip, and no two that only look alike."""

_log = structlog.get_logger()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, by which session."""

    user: User
    session_id: UUID


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What to change of the team's settings; None: leave it."""

    default_search_mode: SearchMode | None = None
    results_per_page: int | None = None
    sync_enabled: bool | None = None
    sync_interval_minutes: int | None = None
    semantic_search_enabled: bool | None = None
    auto_suggest_enabled: bool | None = None


class Accounts:
    """Rules about users, sessions and settings."""

    def __init__(
        self,
        database: Database,
        store: AccountStore,
        passwords: Passwords,
        tokens: Tokens,
        clock: Clock,
        *,
        setup_token: str | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock
        self._setup_token = setup_token
        self._attempts = LoginAttempts()

    # Set-up and sessions

    async def is_set_up(self) -> bool:
        """Whether there is any user."""
        return await self._store.user_count() > 0

    async def setup(
        self, name: str, email: str, password: str, *, setup_token: str | None = None
    ) -> User:
        """Make the first administrator; of several at once, across all processes, one succeeds.

        Raises:
            Forbidden: there is a user (``already-set-up``), or the set-up token is missing or wrong
                (``setup-token``).
            Rejected: a field is wrong; the message names it.
        """
        # Asked before the hash as well: nobody can keep the hashing busy once the set-up is done.
        if await self.is_set_up():
            raise _already_set_up()
        self._check_setup_token(setup_token)
        user, password_hash = await self._new_user(name, email, password, Role.ADMIN)
        async with self._database.transaction() as tx:
            await self._store.lock_setup(tx)
            if await self._store.user_count(tx) > 0:
                raise _already_set_up()
            await self._store.add_user(tx, user, password_hash)
        _log.info("setup.completed", user_id=str(user.id))
        return user

    async def login(self, email: str, password: str) -> Session:
        """Start a session. An unknown email, a wrong password and a disabled user get one answer.

        Raises:
            Unauthenticated: ``bad-credentials``.
            Transient: too many failures for this email (``too-many-attempts``).
        """
        email = email.strip().lower()
        self._attempts.check(email)
        found = await self._store.credentials(email) if len(email) <= EMAIL_CHARS_MAX else None
        user, password_hash = found or (None, None)
        is_right = await self._passwords.verify(password_hash, _normal_password(password))
        if user is None or not is_right or not user.active:
            self._attempts.fail(email[:EMAIL_CHARS_MAX])
            _log.info("login.refused", user_id=str(user.id) if user else None)
            raise Unauthenticated("email or password is wrong", code="bad-credentials")
        self._attempts.succeed(email)
        session_id, refresh_token = uuid4(), secrets.token_urlsafe(32)
        now = self._clock.now()
        await self._store.start_session(
            user.id, session_id, _digest(refresh_token), now + SESSION_TTL
        )
        _log.info("session.started", user_id=str(user.id))
        return self._session(replace(user, last_login_at=now), session_id, refresh_token)

    async def refresh(self, refresh_token: str) -> Session:
        """Give new tokens for a refresh token, which is used up by this.

        Raises:
            Unauthenticated: unknown, used, or its session has ended (``bad-refresh-token``).
        """
        new_token = secrets.token_urlsafe(32)
        rotated = await self._store.rotate_session(
            _digest(refresh_token), _digest(new_token), self._clock.now() + SESSION_TTL
        )
        if rotated is None:
            raise Unauthenticated(
                "the refresh token is not valid: log in again", code="bad-refresh-token"
            )
        session_id, user = rotated
        return self._session(user, session_id, new_token)

    async def logout(self, caller: Caller) -> None:
        """End the caller's session: neither of its tokens is good for anything from now on."""
        await self._store.end_session(caller.session_id)

    async def authenticate(self, token: str) -> Caller:
        """Return who a token stands for.

        Raises:
            Unauthenticated: the token is not valid, or its session has ended (``session-ended``).
        """
        session_id = self._tokens.session_of(token)
        user = await self._store.session_user(session_id)
        if user is None:
            raise Unauthenticated("the session has ended: log in again", code="session-ended")
        return Caller(user, session_id)

    # Users

    async def users(self) -> list[User]:
        """Return all users by email."""
        return await self._store.users()

    async def create_user(self, name: str, email: str, password: str, role: Role) -> User:
        """Add a user.

        Raises:
            Rejected: a field is wrong; the message names it.
            Conflict: the email is taken (``user-exists``).
        """
        user, password_hash = await self._new_user(name, email, password, role)
        async with self._database.transaction() as tx:
            await self._store.add_user(tx, user, password_hash)
        _log.info("user.created", user_id=str(user.id), role=role.value)
        return user

    async def remove_user(self, user_id: UUID) -> None:
        """Remove a user with all sessions.

        Raises:
            NotFound: there is none.
            Conflict: it is the last administrator (``last-admin``).
        """
        user = await self._store.user(user_id)
        if user is None:
            raise _no_user(user_id)
        async with self._database.transaction() as tx:
            # Holds the administrators' rows, so that two removals cannot both see two.
            admins = await self._store.count_admins(tx)
            if user.role is Role.ADMIN and user.active and admins <= 1:
                raise Conflict(
                    f"user {user.email}: the last administrator cannot be removed",
                    code="last-admin",
                )
            if not await self._store.remove_user(tx, user_id):
                raise _no_user(user_id)
        _log.info("user.removed", user_id=str(user_id))

    # The team's settings

    async def settings(self) -> TeamSettings:
        """Return the team's settings."""
        return await self._store.settings()

    async def change_settings(self, change: SettingsChange, *, changed_by: UUID) -> TeamSettings:
        """Change what is given, leave the rest.

        Raises:
            Rejected: a value is outside of what is allowed; the message names the field.
        """
        settings = await self._store.settings()
        _within("results_per_page", change.results_per_page, settings.max_results_per_page)
        _within("sync_interval_minutes", change.sync_interval_minutes, SYNC_INTERVAL_MINUTES_MAX)
        settings = replace(
            settings,
            default_search_mode=_given(change.default_search_mode, settings.default_search_mode),
            results_per_page=_given(change.results_per_page, settings.results_per_page),
            sync_enabled=_given(change.sync_enabled, settings.sync_enabled),
            sync_interval_minutes=_given(
                change.sync_interval_minutes, settings.sync_interval_minutes
            ),
            semantic_search_enabled=_given(
                change.semantic_search_enabled, settings.semantic_search_enabled
            ),
            auto_suggest_enabled=_given(change.auto_suggest_enabled, settings.auto_suggest_enabled),
            updated_by=changed_by,
        )
        async with self._database.transaction() as tx:
            await self._store.save_settings(tx, settings)
        return await self._store.settings()

    def _check_setup_token(self, given: str | None) -> None:
        if self._setup_token is None:
            return
        if not hmac.compare_digest(self._setup_token.encode(), (given or "").encode()):
            raise Forbidden(
                "the set-up token is missing or wrong: give the value of SETUP_TOKEN as setup_token",
                code="setup-token",
            )

    def _session(self, user: User, session_id: UUID, refresh_token: str) -> Session:
        now = self._clock.now()
        expires_at = now + TOKEN_TTL
        token = self._tokens.issue(user, session_id, issued_at=now, expires_at=expires_at)
        return Session(user, token, refresh_token, expires_at)

    async def _new_user(self, name: str, email: str, password: str, role: Role) -> tuple[User, str]:
        name, email, password = checked_name(name), _email(email), _new_password(password)
        settings = await self._store.settings()
        now = self._clock.now()
        user = User(
            id=uuid4(),
            email=email,
            name=name,
            role=role,
            active=True,
            team_id=settings.team_id,
            created_at=now,
            updated_at=now,
        )
        return user, await self._passwords.hash(password)


def require_role(user: User, role: Role) -> None:
    """Let a user pass who has *role* or a higher one.

    Raises:
        Forbidden: the user has a lower one (``role-required``).
    """
    ranks = (Role.VIEWER, Role.MEMBER, Role.ADMIN)
    if ranks.index(user.role) < ranks.index(role):
        raise Forbidden(
            f"this needs the role {role.value}; yours is {user.role.value}", code="role-required"
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _normal_password(password: str) -> str:
    """Systems write the same accented letter in several ways; one is hashed."""
    return unicodedata.normalize("NFC", password[: 4 * PASSWORD_CHARS_MAX])


def _new_password(password: str) -> str:
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise Rejected(
            f"password: give {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters",
            code="bad-field",
        )
    return _normal_password(password)


def _email(email: str) -> str:
    email = email.strip().lower()
    if len(email) > EMAIL_CHARS_MAX or not _EMAIL.fullmatch(email):
        raise Rejected(
            f"email: give an address like ann@example.org in at most {EMAIL_CHARS_MAX} characters",
            code="bad-field",
        )
    return email


def _within(field: str, value: int | None, high: int) -> None:
    if value is not None and not 1 <= value <= high:
        raise Rejected(f"{field}: {value} is outside 1 to {high}", code="bad-field")


def _given(value: _T | None, present: _T) -> _T:
    return present if value is None else value


def _already_set_up() -> Forbidden:
    return Forbidden("Sercha is set up already: log in instead", code="already-set-up")


def _no_user(user_id: UUID) -> NotFound:
    return NotFound(f"user {user_id}: there is none", code="user-not-found")
