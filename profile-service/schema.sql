-- The schema, as the migrations build it. Change it here, then run `makemigrations`.

CREATE TABLE profiles (
    user_id UUID NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    -- The lower-case username in UTF-8. As bytes it has the same order on every engine, whatever the collation of the
    -- database, and those that begin alike stand together: a prefix is a range of the index.
    username_key BYTEA NOT NULL,
    -- The version of the user that the username is from.
    user_version BIGINT NOT NULL,
    bio TEXT NOT NULL,
    birth_date DATE,
    website TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    -- A user who may not sign in is in no list.
    user_is_active BOOLEAN NOT NULL DEFAULT TRUE,
    -- The generation of the feed that has told of the user. 0: only an access token has.
    generation BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX profiles_by_username ON profiles (username_key, user_id);
CREATE INDEX profiles_unconfirmed ON profiles (create_time) WHERE generation = 0;

-- `user_id` calls `friend_id` a friend.
CREATE TABLE friendships (
    user_id UUID NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    friend_id UUID NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    create_time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, friend_id),
    CHECK (user_id <> friend_id)
);

CREATE INDEX friendships_reversed ON friendships (friend_id, user_id);

CREATE TABLE notes (
    user_id UUID NOT NULL REFERENCES profiles (user_id) ON DELETE CASCADE,
    note_id UUID NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    -- 1: private, 2: friends, 3: public.
    visibility SMALLINT NOT NULL CHECK (visibility IN (1, 2, 3)),
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL,
    -- The search key of the title, in UTF-8: the title without differences of case. Empty until a note from before this column is
    -- given one.
    title_key BYTEA NOT NULL DEFAULT '',
    PRIMARY KEY (user_id, note_id)
);

-- Each order of ListNotes has an index that begins with the owner, so that a page reads notes of one owner only.
CREATE INDEX notes_by_time ON notes (user_id, create_time, note_id);
CREATE INDEX notes_by_update_time ON notes (user_id, update_time, note_id);
CREATE INDEX notes_by_title ON notes (user_id, title_key, note_id);
CREATE INDEX notes_without_title_key ON notes (user_id, note_id) WHERE title_key = '';

-- The size of the notes of each user who has written some: the bytes of titles and bodies in UTF-8.
CREATE TABLE note_usage (
    user_id UUID NOT NULL PRIMARY KEY REFERENCES profiles (user_id) ON DELETE CASCADE,
    bytes BIGINT NOT NULL
);

-- The favourite note of a profile. A nullable column of `profiles` would make the two tables refer to one another; the row
-- here goes with the note, which is what SET NULL would do there.
CREATE TABLE favorites (
    user_id UUID NOT NULL PRIMARY KEY REFERENCES profiles (user_id) ON DELETE CASCADE,
    note_user_id UUID NOT NULL,
    note_id UUID NOT NULL,
    FOREIGN KEY (note_user_id, note_id) REFERENCES notes (user_id, note_id) ON DELETE CASCADE
);

CREATE INDEX favorites_by_note ON favorites (note_user_id, note_id);

-- The rows of Django that have come over, by the id that follows from where they come from. What has come over once does not
-- come again, whatever became of it here.
CREATE TABLE django_rows (
    row_id UUID PRIMARY KEY
);

-- The users who were deleted: an access token of theirs that is still valid makes no profile.
CREATE TABLE tombstones (
    user_id UUID NOT NULL PRIMARY KEY,
    time TIMESTAMPTZ NOT NULL
);

-- One row: how far the events of the auth service are applied here.
CREATE TABLE feed_cursor (
    cursor_id BIGINT NOT NULL PRIMARY KEY CHECK (cursor_id = 1),
    epoch TEXT NOT NULL,
    -- -1 while a snapshot is taken in, and before the first.
    pos BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    -- One more with every snapshot.
    generation BIGINT NOT NULL,
    update_time TIMESTAMPTZ NOT NULL
);

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
