-- A user who may not sign in is in no list.
ALTER TABLE profiles ADD COLUMN user_is_active BOOLEAN NOT NULL DEFAULT TRUE;
-- The generation of the feed that has told of the user. 0: only an access token has.
ALTER TABLE profiles ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- safe: the table is no older than the first release
CREATE INDEX profiles_unconfirmed ON profiles (create_time) WHERE generation = 0;

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
