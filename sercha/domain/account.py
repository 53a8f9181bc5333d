"""Users, roles and what a caller is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sercha.domain.document import TEAM


class Role(StrEnum):
    """What a user may do; each includes the next."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class User:
    """A person who can log in; never carries the password's hash."""

    id: UUID
    email: str
    name: str
    role: Role
    active: bool
    team_id: UUID
    created_at: datetime
    updated_at: datetime
    last_login_at: datetime | None = None

    @property
    def principals(self) -> frozenset[str]:
        """What is compared with a document's readers."""
        return frozenset({TEAM, f"user:{self.id}"})


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in: tokens to hand to the client, shown once."""

    user: User
    token: str
    refresh_token: str
    expires_at: datetime
    """When ``token`` ends; the refresh token lives longer."""


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """What administrators set for the team (upstream's ``Settings``)."""

    team_id: UUID
    default_search_mode: str
    results_per_page: int
    max_results_per_page: int
    sync_enabled: bool
    sync_interval_minutes: int
    semantic_search_enabled: bool
    auto_suggest_enabled: bool
    updated_at: datetime
    updated_by: UUID | None
