CREATE TABLE IF NOT EXISTS role_assignment (
    resource role_resource NOT NULL,
    resource_id UUID NOT NULL,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    role_name role_name NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (resource, resource_id, silo_user_id, role_name),
    CONSTRAINT role_assignment_fleet_has_the_role CHECK (
        resource <> 'fleet' OR role_name <> 'limited_collaborator'),
    CONSTRAINT role_assignment_one_fleet CHECK (
        (resource = 'fleet')
        = (resource_id = '00000000-0000-0000-0000-000000000000'))
);
