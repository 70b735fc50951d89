-- no-transaction
-- on sqlite:
CREATE INDEX notes_by_update_time ON notes (user_id, update_time, note_id);
CREATE INDEX notes_by_title ON notes (user_id, title_key, note_id);
CREATE INDEX notes_without_title_key ON notes (user_id, note_id) WHERE title_key = '';
-- on postgres:
DROP INDEX IF EXISTS notes_by_update_time;
CREATE INDEX CONCURRENTLY notes_by_update_time ON notes (user_id, update_time, note_id);
DROP INDEX IF EXISTS notes_by_title;
CREATE INDEX CONCURRENTLY notes_by_title ON notes (user_id, title_key, note_id);
DROP INDEX IF EXISTS notes_without_title_key;
CREATE INDEX CONCURRENTLY notes_without_title_key ON notes (user_id, note_id) WHERE title_key = '';
