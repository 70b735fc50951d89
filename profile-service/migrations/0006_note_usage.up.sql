CREATE TABLE note_usage (
    user_id UUID NOT NULL PRIMARY KEY REFERENCES profiles (user_id) ON DELETE CASCADE,
    bytes BIGINT NOT NULL
);

-- Notes that replicas of the previous release write during the upgrade are not counted, so a user can exceed the quota by their size.
INSERT INTO note_usage (user_id, bytes)
SELECT user_id, SUM(OCTET_LENGTH(title) + OCTET_LENGTH(body)) FROM notes GROUP BY user_id;
