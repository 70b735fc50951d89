-- The longest that anything the key has signed may live, in seconds, and when the last of it has expired.
ALTER TABLE signing_keys ADD COLUMN token_life BIGINT NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN expire_time TIMESTAMPTZ;
