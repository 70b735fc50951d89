DROP TABLE audit_keys;
DROP TABLE audit_seal;
DROP TABLE audit_event;
