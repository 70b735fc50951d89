DROP TABLE note_usage;
