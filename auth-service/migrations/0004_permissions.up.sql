CREATE TABLE groups (
    group_id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    -- The name as UTF-8 bytes, which have one order on every engine.
    name_key BYTEA NOT NULL UNIQUE,
    create_time TIMESTAMPTZ NOT NULL,
    update_time TIMESTAMPTZ NOT NULL,
    version BIGINT NOT NULL
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
