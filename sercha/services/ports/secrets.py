"""Secrets of other services, kept where others may read."""

from __future__ import annotations

from typing import Protocol


class SecretSeal(Protocol):
    """Encrypts what is stored."""

    def close(self, secret: str, context: str) -> bytes:
        """Encrypt *secret* so that it opens only with the same *context*."""
        ...

    def open(self, sealed: bytes, context: str) -> str | None:
        """Decrypt; None when it was sealed with another key or for another context."""
        ...
