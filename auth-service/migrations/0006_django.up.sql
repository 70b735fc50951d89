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
