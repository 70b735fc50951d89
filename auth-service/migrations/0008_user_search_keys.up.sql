-- The search keys of a user's username, e-mail address, first name and last name, in UTF-8. ListUsers searches for their beginnings.
-- The service computes the keys of the existing users when it starts.
CREATE TABLE user_search_keys (
    user_id UUID NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    key BYTEA NOT NULL,
    PRIMARY KEY (key, user_id)
);

CREATE INDEX user_search_keys_by_user ON user_search_keys (user_id);
