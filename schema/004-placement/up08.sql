CREATE INDEX IF NOT EXISTS sled_open_by_room
    ON sled ((vcpus - reserved_vcpus), (memory_bytes - reserved_memory_bytes))
    WHERE policy = 'in_service' AND provision_policy = 'provisionable';
