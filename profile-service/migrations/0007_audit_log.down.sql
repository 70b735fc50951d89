DROP TABLE audit_seal;
DROP TABLE audit_event;
