-- The schema, as the migrations build it. Change it here, then run `makemigrations`.

CREATE TABLE users (
    user_id UUID PRIMARY KEY,
    username TEXT NOT NULL,
    -- The RFC 8265 UsernameCaseMapped form: what makes two spellings one name. As UTF-8 bytes it has the same order on every
    -- engine, whatever the collation of the database, and a prefix is a range of the index.
    username_key BYTEA NOT NULL UNIQUE,
    email TEXT,
    email_key TEXT UNIQUE,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    is_superuser BOOLEAN NOT NULL,
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    last_login_time TIMESTAMPTZ,
    version BIGINT NOT NULL
);

CREATE TABLE signing_keys (
    -- The RFC 7638 thumbprint.
    kid TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'RETIRED')),
    -- PKCS#8, sealed with the master key.
    private_key BYTEA NOT NULL,
    -- The public key as a JWK has it: base64url.
    n TEXT NOT NULL,
    e TEXT NOT NULL,
    create_time TIMESTAMPTZ NOT NULL,
    activate_time TIMESTAMPTZ,
    retire_time TIMESTAMPTZ,
    -- The longest that anything the key has signed may live, in seconds, and when the last of it has expired.
    token_life BIGINT NOT NULL DEFAULT 0,
    expire_time TIMESTAMPTZ
);

CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (state) WHERE state = 'ACTIVE';

CREATE TABLE sessions (
    session_id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    -- The generation of the one refresh token that rotates, and what its bytes follow from.
    gen BIGINT NOT NULL,
    kid TEXT NOT NULL,
    rotated_at TIMESTAMPTZ NOT NULL,
    -- How often the last rotation was answered again.
    replays BIGINT NOT NULL,
    -- The hashes of the request ids that rotated the last 16 generations, 32 bytes each, at their generation modulo 16.
    request_hashes BYTEA NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ACTIVE', 'ENDED')),
    reason TEXT,
    idle_expires_at TIMESTAMPTZ NOT NULL,
    absolute_expires_at TIMESTAMPTZ NOT NULL,
    user_agent TEXT NOT NULL,
    address TEXT NOT NULL,
    create_time TIMESTAMPTZ NOT NULL
);

CREATE INDEX sessions_of_user ON sessions (user_id, create_time);

CREATE TABLE attempts (
    -- SHA-256 of what is guessed at, or of where it is guessed from. (People type passwords into the field of the username.)
    subject BYTEA PRIMARY KEY,
    -- When the failed attempts of the last hour were made, the oldest first: seconds since 1970, four bytes each.
    times BYTEA NOT NULL,
    -- When the last of them counts no more.
    expire_time TIMESTAMPTZ NOT NULL
);

CREATE INDEX attempts_by_expire_time ON attempts (expire_time);
