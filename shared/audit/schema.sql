-- The audit log: who did what to whom. Afterwards only `seal_id` is set, and personal data is erased.
CREATE TABLE audit_event (
    -- UUIDv7, which sorts by time.
    event_id UUID PRIMARY KEY,
    -- The batch that the entry belongs to. NULL until it is sealed.
    seal_id BIGINT,
    time TIMESTAMPTZ NOT NULL,
    actor_type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    -- The path of an RPC, or the name of a command.
    method TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_id TEXT NOT NULL,
    -- The name of a gRPC code, and the reason of the error.
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The names of the changed fields, separated by spaces.
    fields TEXT NOT NULL,
    request_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    -- How many refused calls the entry counts.
    occurrences BIGINT NOT NULL,
    -- SHA-256 of the salt and of the personal data of the actor and of the target. NULL if there is none.
    actor_digest BYTEA,
    target_digest BYTEA,
    -- The personal data, which is not sealed. It is set to NULL together with its salt when the user is deleted.
    actor_salt BYTEA,
    actor_name TEXT,
    address TEXT,
    user_agent TEXT,
    target_salt BYTEA,
    target_name TEXT
);

CREATE INDEX audit_event_by_seal ON audit_event (seal_id);
CREATE INDEX audit_event_unsealed ON audit_event (event_id) WHERE seal_id IS NULL;
CREATE INDEX audit_event_by_actor ON audit_event (actor_id, event_id);
CREATE INDEX audit_event_by_target ON audit_event (target_id, event_id);

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

-- The seals of the batches. Their numbers have no gaps.
CREATE TABLE audit_seal (
    seal_id BIGINT PRIMARY KEY,
    time TIMESTAMPTZ NOT NULL,
    -- The number of the entries of the batch, and SHA-256 of their sealed columns.
    entries BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    -- The first batch whose entries are kept. Retention has deleted the batches before it.
    first_kept BIGINT NOT NULL,
    -- The MAC of the seal before.
    previous BYTEA NOT NULL,
    key_id TEXT NOT NULL,
    -- HMAC-SHA256 of the other columns.
    mac BYTEA NOT NULL
);
