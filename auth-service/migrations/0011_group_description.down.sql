ALTER TABLE groups DROP COLUMN description;
