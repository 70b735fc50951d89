CREATE TABLE clients (
    client_id TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    -- The permissions, separated by spaces: the `scope` of its tokens.
    scope TEXT NOT NULL,
    -- The public keys that its assertions are signed with: a JSON array of objects with `kid`, `n` and `e`.
    keys TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    -- SHA-256 of a secret of 256 random bits.
    secret_hash BYTEA,
    secret_time TIMESTAMPTZ,
    -- The same of the secret before, and until when it is good.
    previous_hash BYTEA,
    previous_expire_time TIMESTAMPTZ,
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL
);

CREATE TABLE assertions (
    -- SHA-256 of the client's id and of the `jti` that it has used.
    used BYTEA PRIMARY KEY,
    -- When the assertion is refused for its age.
    expire_time TIMESTAMPTZ NOT NULL
);

CREATE INDEX assertions_by_expire_time ON assertions (expire_time);

-- The ids of users who were deleted. They are nobody's ever after.
CREATE TABLE deleted_users (
    user_id UUID PRIMARY KEY,
    delete_time TIMESTAMPTZ NOT NULL
);
