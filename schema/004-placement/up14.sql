CREATE TABLE IF NOT EXISTS affinity_group (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    kind affinity_group_kind NOT NULL,
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    policy affinity_policy NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);
