"""What `sercha doctor` finds about vectors in PostgreSQL, for the embedded engine."""

from __future__ import annotations

from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.pgvector import find_extension
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.cli.checks import Finding, Verdict

_HAS_MODELS = "SELECT to_regclass('embedding_model') IS NOT NULL"


async def check_vectors(pool: ConnectionPool) -> Finding:
    """Check that searches by meaning find what they need, if a model is set; without one nothing is missing."""
    async with pool.connection() as connection:
        extension = await find_extension(connection)
        row = await (await connection.execute(_HAS_MODELS)).fetchone()
    obstacle = extension.obstacle
    if row is not None and row[0]:
        state = await PostgresNeighbours(pool).state()
        if not state.is_healthy:
            what, _, mend = state.message.partition(": ")
            return Finding("vectors", Verdict.WARN, f"{what}; text answers meanwhile", mend)
    if obstacle is not None:
        what, _, _ = obstacle.partition(": ")
        return Finding("vectors", Verdict.OK, f"not in use: {what}")
    return Finding("vectors", Verdict.OK, f"pgvector {extension.version}")
