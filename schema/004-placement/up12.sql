CREATE TABLE IF NOT EXISTS silo_quota (
    silo_id UUID PRIMARY KEY REFERENCES silo (id),
    vcpus INT8 NOT NULL,
    memory_bytes INT8 NOT NULL,
    storage_bytes INT8 NOT NULL,
    used_vcpus INT8 NOT NULL,
    used_memory_bytes INT8 NOT NULL,
    used_storage_bytes INT8 NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    CONSTRAINT silo_quota_not_negative CHECK (
        vcpus >= 0 AND memory_bytes >= 0 AND storage_bytes >= 0),
    CONSTRAINT silo_quota_use_not_negative CHECK (
        used_vcpus >= 0 AND used_memory_bytes >= 0
        AND used_storage_bytes >= 0)
);
