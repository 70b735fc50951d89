DROP TABLE favorites;
DROP TABLE notes;
DROP TABLE friendships;
DROP TABLE profiles;
