"""From psycopg's errors to lockd's own: whatever PostgreSQL says, there was no usable answer."""

from __future__ import annotations

import psycopg

from lockd._errors import StoreUnreachable


def unreachable(error: psycopg.Error) -> StoreUnreachable:
    """Put *error* into one line; libpq's have several, none with a password."""
    text = error.diag.message_primary or str(error)
    return StoreUnreachable(f"PostgreSQL: {' '.join(text.split()) or type(error).__name__}")
