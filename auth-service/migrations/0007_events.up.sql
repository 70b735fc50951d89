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
