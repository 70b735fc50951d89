DROP TABLE user_search_keys;
