-- Leases: the tables of lockd, as in its schema.sql (a test compares them).

-- Who acts under a name, with the newest token; effects are checked against it. `timeline` is the server's when
-- the row was taken: a standby that was promoted has another, and may have brought back an older row.
CREATE TABLE lease_fence (
    name text PRIMARY KEY,
    holder uuid,
    token bigint NOT NULL DEFAULT 0,
    timeline text,
    meta jsonb
);

-- Until when the holder has the lease. A table of its own, so that a renewal never waits for a transaction that
-- keeps the fence from moving.
CREATE TABLE lease_row (
    name text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
