DROP INDEX notes_without_title_key;
DROP INDEX notes_by_title;
DROP INDEX notes_by_update_time;
