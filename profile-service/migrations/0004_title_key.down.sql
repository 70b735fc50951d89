ALTER TABLE notes DROP COLUMN title_key;
