DROP TABLE feed_cursor;
DROP TABLE tombstones;
DROP INDEX profiles_unconfirmed;
ALTER TABLE profiles DROP COLUMN generation;
ALTER TABLE profiles DROP COLUMN user_is_active;
