DROP TABLE user_permissions;
DROP TABLE group_permissions;
DROP TABLE group_members;
DROP TABLE groups;
