CREATE TABLE IF NOT EXISTS disk (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    instance_id UUID REFERENCES instance (id),
    sled_id UUID REFERENCES sled (id),
    allocated_by UUID,
    CONSTRAINT disk_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT disk_deleted_holds_nothing CHECK (
        time_deleted IS NULL OR (instance_id IS NULL AND sled_id IS NULL)),
    CONSTRAINT disk_allocated_whole
        CHECK ((sled_id IS NULL) = (allocated_by IS NULL))
);
