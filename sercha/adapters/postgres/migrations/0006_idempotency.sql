-- First answers of requests that carry an idempotency key, written in the transaction of their effect.
CREATE TABLE idempotency_key (
    principal text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status smallint NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (principal, method, path, key)
);
CREATE INDEX idempotency_key_expiry ON idempotency_key (expires_at);
