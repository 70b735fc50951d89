DROP TABLE django_tokens;
DROP TABLE django_users;
DROP TABLE django_rows;
