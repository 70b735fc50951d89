DROP INDEX users_by_create_time;
