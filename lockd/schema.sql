-- lockd's tables. Both are logged: a lease must not be forgotten by a crash of the server, nor by its standby.

-- Who acts under a name, with the newest token; effects are checked against it. `timeline` is the server's when
-- the row was taken: a standby that was promoted has another, and may have brought back an older row.
CREATE TABLE IF NOT EXISTS lease_fence (
    name text PRIMARY KEY,
    holder uuid,
    token bigint NOT NULL DEFAULT 0,
    timeline text,
    meta jsonb
);

-- Until when the holder in lease_fence has the lease. A table of its own, so that a renewal never waits for a
-- transaction that keeps the fence from moving.
CREATE TABLE IF NOT EXISTS lease_row (
    name text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
