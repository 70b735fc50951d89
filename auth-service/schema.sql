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

CREATE INDEX users_by_create_time ON users (create_time, user_id);

-- The search keys of a user's username, e-mail address, first name and last name, in UTF-8. ListUsers searches for their beginnings.
CREATE TABLE user_search_keys (
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    key BYTEA NOT NULL,
    PRIMARY KEY (key, user_id)
);

CREATE INDEX user_search_keys_by_user ON user_search_keys (user_id);

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

-- The networks from which users have had sessions within 90 days.
CREATE TABLE known_networks (
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    -- An IPv4 address, or the first address of a /64 network of IPv6.
    network TEXT NOT NULL,
    expire_time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE INDEX known_networks_by_expire_time ON known_networks (expire_time);

CREATE TABLE groups (
    group_id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name as UTF-8 bytes, which have one order on every engine.
    name_key BYTEA NOT NULL UNIQUE,
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    description TEXT NOT NULL DEFAULT ''
);

CREATE TABLE group_members (
    group_id UUID NOT NULL REFERENCES groups (group_id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX group_members_by_user ON group_members (user_id);

-- A permission is the text `app.codename`. One that the catalogue does not know is kept, and lets nobody do anything.
CREATE TABLE group_permissions (
    group_id UUID NOT NULL REFERENCES groups (group_id) ON DELETE CASCADE,
    permission TEXT NOT NULL,
    PRIMARY KEY (group_id, permission)
);

CREATE TABLE user_permissions (
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    permission TEXT NOT NULL,
    PRIMARY KEY (user_id, permission)
);

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

-- The rows of Django that have come over, by the id that follows from where they come from. What has come over once does not
-- come again, whatever became of it here.
CREATE TABLE django_rows (
    row_id UUID PRIMARY KEY
);

-- The users who have come over, with their primary key in the Django project `origin`: the `user_id` of its tokens.
CREATE TABLE django_users (
    user_id UUID PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    origin TEXT NOT NULL,
    origin_key TEXT NOT NULL,
    -- The user was signed out everywhere since: no refresh token of Django's opens a session any more.
    is_signed_out BOOLEAN NOT NULL,
    UNIQUE (origin, origin_key)
);

-- The refresh tokens of Django that are known, until they expire.
CREATE TABLE django_tokens (
    origin TEXT NOT NULL,
    jti TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('OUTSTANDING', 'BLACKLISTED', 'REDEEMED')),
    -- The session that it was traded for.
    session_id UUID,
    expire_time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (origin, jti)
);

CREATE INDEX django_tokens_of_user ON django_tokens (user_id);
CREATE INDEX django_tokens_by_expire_time ON django_tokens (expire_time);

-- One row: how far the events have come. Whoever adds some changes it last of all, so that the lock on it makes their
-- positions come in the order of the commits.
CREATE TABLE feed (
    feed_id BIGINT PRIMARY KEY CHECK (feed_id = 1),
    -- Another for every database that was not made from a copy of this one.
    epoch UUID NOT NULL,
    -- The position of the last event. Positions begin at 1, and have no gaps.
    last BIGINT NOT NULL,
    -- The oldest position that there is still a row of; 0 where none was ever deleted.
    floor BIGINT NOT NULL,
    -- The longest that an access token has ever been allowed to live, in seconds: for so long a revocation matters.
    token_life BIGINT NOT NULL
);

CREATE TABLE outbox (
    pos BIGINT PRIMARY KEY,
    event_id UUID NOT NULL,
    user_id UUID,
    user_version BIGINT,
    kind TEXT NOT NULL,
    -- JSON, which `kind` says how to read.
    payload TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL
);

CREATE INDEX outbox_by_time ON outbox (time);

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

-- The keys of the audit log before the current one, encrypted with the master key. The current one is derived from the master key.
CREATE TABLE audit_keys (
    key_id TEXT PRIMARY KEY,
    encrypted_key BYTEA NOT NULL
);
