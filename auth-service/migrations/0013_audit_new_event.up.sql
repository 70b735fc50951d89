-- The entries that a replica has not moved to `audit_event` yet. It has no index, because every change writes here, and it has few rows.
CREATE TABLE audit_new_event (
    event_id UUID NOT NULL,
    -- The columns that are sealed, as the bytes that the seal covers.
    sealed_columns BYTEA NOT NULL,
    -- The columns of `audit_event`.
    time TIMESTAMPTZ NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    method TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    fields TEXT NOT NULL,
    request_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    occurrences BIGINT NOT NULL,
    actor_digest BYTEA,
    target_digest BYTEA,
    actor_salt BYTEA,
    actor_name TEXT,
    address TEXT,
    user_agent TEXT,
    target_salt BYTEA,
    target_name TEXT
);
-- on postgres:
-- Logical replication needs to know a deleted row.
ALTER TABLE audit_new_event REPLICA IDENTITY FULL;
