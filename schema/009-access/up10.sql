-- Those who could see and change the fleet still can.
INSERT INTO role_assignment
    (resource, resource_id, silo_user_id, role_name, time_created)
SELECT 'fleet', '00000000-0000-0000-0000-000000000000', id, 'admin', now()
FROM silo_user WHERE fleet_admin AND time_deleted IS NULL
ON CONFLICT DO NOTHING;
