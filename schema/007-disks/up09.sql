CREATE TABLE IF NOT EXISTS snapshot (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    block_size INT8 NOT NULL,
    disk_id UUID NOT NULL REFERENCES disk (id),
    made BOOL NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    CONSTRAINT snapshot_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT snapshot_block_size
        CHECK (block_size IN (512, 2048, 4096))
);
