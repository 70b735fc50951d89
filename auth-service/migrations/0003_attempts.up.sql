CREATE TABLE attempts (
    -- SHA-256 of what is guessed at, or of where it is guessed from. (People type passwords into the field of the username.)
    subject BYTEA PRIMARY KEY,
    -- When the failed attempts of the last hour were made, the oldest first: seconds since 1970, four bytes each.
    times BYTEA NOT NULL,
    -- When the last of them counts no more.
    expire_time TIMESTAMPTZ NOT NULL
);

CREATE INDEX attempts_by_expire_time ON attempts (expire_time);
