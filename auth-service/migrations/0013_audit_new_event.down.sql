INSERT INTO audit_event (
    event_id, time, actor_type, actor_id, method, target_type, target_id, outcome, reason, fields, request_id, trace_id,
    occurrences, actor_digest, target_digest, actor_salt, actor_name, address, user_agent, target_salt, target_name
)
SELECT
    event_id, time, actor_type, actor_id, method, target_type, target_id, outcome, reason, fields, request_id, trace_id,
    occurrences, actor_digest, target_digest, actor_salt, actor_name, address, user_agent, target_salt, target_name
FROM audit_new_event;
DROP TABLE audit_new_event;
