-- The search key of the title, in UTF-8: the title without differences of case. The service computes the keys of the existing notes
-- when it starts.
ALTER TABLE notes ADD COLUMN title_key BYTEA NOT NULL DEFAULT '';
