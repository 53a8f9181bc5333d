"""Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, naming a session."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

import jwt

from sercha.domain.account import User
from sercha.errors import Unauthenticated

ALGORITHM = "HS256"
ISSUER = "sercha"
LEEWAY = 10.0
"""Seconds by which the clocks of two API processes may differ."""

_REQUIRED = ["sub", "sid", "iat", "exp", "iss"]


class JwtTokens:
    """`sercha.services.ports.Tokens`, with a key derived from ``JWT_SECRET``."""

    def __init__(self, secret: str) -> None:
        # The secret is only ever used for this purpose and at the length that the algorithm wants.
        self._key = hashlib.sha256(b"sercha access token\0" + secret.encode()).digest()

    def issue(
        self, user: User, session_id: UUID, *, issued_at: datetime, expires_at: datetime
    ) -> str:
        """Return a token for *user*'s session."""
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": str(user.id),
            "sid": str(session_id),
            "role": user.role.value,
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def session_of(self, token: str) -> UUID:
        """Return the session that a token names.

        Raises:
            Unauthenticated: forged, broken or of somebody else (``bad-token``), or past its end
                (``token-expired``).
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                leeway=LEEWAY,
                options={"require": _REQUIRED},
            )
            return UUID(str(claims["sid"]))
        except jwt.ExpiredSignatureError:
            raise Unauthenticated(
                "the token has expired: refresh it or log in again", code="token-expired"
            ) from None
        except (jwt.InvalidTokenError, ValueError):
            raise Unauthenticated("the token is not valid", code="bad-token") from None
