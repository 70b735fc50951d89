DROP TABLE outbox;
DROP TABLE feed;
