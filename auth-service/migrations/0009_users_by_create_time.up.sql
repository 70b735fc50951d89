-- no-transaction
-- on sqlite:
CREATE INDEX users_by_create_time ON users (create_time, user_id);
-- on postgres:
DROP INDEX IF EXISTS users_by_create_time;
CREATE INDEX CONCURRENTLY users_by_create_time ON users (create_time, user_id);
