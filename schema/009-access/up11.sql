-- Within their silo all users could do everything.
INSERT INTO role_assignment
    (resource, resource_id, silo_user_id, role_name, time_created)
SELECT 'silo', silo_id, id, 'admin', now()
FROM silo_user WHERE time_deleted IS NULL
ON CONFLICT DO NOTHING;
