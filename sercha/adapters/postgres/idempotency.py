"""First answers of requests with an idempotency key."""

from __future__ import annotations

from sercha.adapters.postgres.transaction import connection_of
from sercha.services.ports import Transaction
from sercha.services.ports.idempotency import RequestIdentity, SealedAnswer

# The lock ends with the transaction, so also with its process or its connection. That its number is shared with
# another key's is next to impossible, and would only make one wait for the other.
_TAKE = """
SELECT pg_try_advisory_xact_lock(%s),
       set_config('idle_in_transaction_session_timeout', %s, true)
"""

_FIND = """
SELECT request_hash, status, content FROM idempotency_key
WHERE principal = %s AND method = %s AND path = %s AND key = %s AND expires_at > clock_timestamp()
"""

_KEEP = """
INSERT INTO idempotency_key AS kept
    (principal, method, path, key, request_hash, status, content, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (principal, method, path, key) DO UPDATE SET
    request_hash = excluded.request_hash, status = excluded.status, content = excluded.content,
    created_at = clock_timestamp(), expires_at = excluded.expires_at
WHERE kept.expires_at <= clock_timestamp()
"""


class PostgresAnswerStore:
    """`sercha.services.ports.idempotency.AnswerStore`, in whatever transaction it is given."""

    async def take(self, tx: Transaction, identity: RequestIdentity, *, idle_max: float) -> bool:
        """Take the turn of *identity* until *tx* ends, without waiting; False: somebody else has it."""
        number = int.from_bytes(identity.digest()[:8], "big", signed=True)
        idle = str(round(idle_max * 1000))
        row = await (await connection_of(tx).execute(_TAKE, [number, idle])).fetchone()
        assert row is not None
        return row[0]

    async def find(self, tx: Transaction, identity: RequestIdentity) -> SealedAnswer | None:
        """Return the answer that is kept and has not expired."""
        row = await (await connection_of(tx).execute(_FIND, _columns(identity))).fetchone()
        return None if row is None else SealedAnswer(*row)

    async def keep(
        self, tx: Transaction, identity: RequestIdentity, answer: SealedAnswer, *, kept: float
    ) -> bool:
        """Keep an answer for *kept* seconds when *tx* commits; False: there is one already."""
        values = [answer.request_hash, answer.status, answer.content, kept]
        cursor = await connection_of(tx).execute(_KEEP, [*_columns(identity), *values])
        return cursor.rowcount == 1


def _columns(identity: RequestIdentity) -> list[object]:
    return [identity.principal, identity.method, identity.path, identity.key]
