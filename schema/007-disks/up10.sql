CREATE TABLE IF NOT EXISTS image (
    id UUID PRIMARY KEY,
    silo_id UUID NOT NULL REFERENCES silo (id),
    project_id UUID REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    os VARCHAR(512) NOT NULL,
    version VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    block_size INT8 NOT NULL,
    made BOOL NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    CONSTRAINT image_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT image_block_size
        CHECK (block_size IN (512, 2048, 4096))
);
