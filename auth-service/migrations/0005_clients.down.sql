DROP TABLE deleted_users;
DROP TABLE assertions;
DROP TABLE clients;
