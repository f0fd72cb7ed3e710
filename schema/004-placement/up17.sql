CREATE TABLE IF NOT EXISTS affinity_group_member (
    group_id UUID NOT NULL REFERENCES affinity_group (id),
    instance_id UUID NOT NULL REFERENCES instance (id),
    PRIMARY KEY (group_id, instance_id)
);
