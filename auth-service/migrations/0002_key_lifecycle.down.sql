ALTER TABLE signing_keys DROP COLUMN expire_time;
ALTER TABLE signing_keys DROP COLUMN token_life;
