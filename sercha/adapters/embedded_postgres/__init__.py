"""The PostgreSQL that `sercha up` starts when no DATABASE_URL is set.

    with data_folder(path) as folder:
        async with embedded_postgres(folder) as server:
            ...  # server.conninfo

The folder is locked for as long as the block lasts, so at most one Sercha ever handles the cluster.
"""

from sercha.adapters.embedded_postgres.server import EmbeddedPostgres, embedded_postgres

__all__ = ["EmbeddedPostgres", "embedded_postgres"]
