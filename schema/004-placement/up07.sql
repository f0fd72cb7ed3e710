ALTER TABLE sled ADD CONSTRAINT sled_storage_not_overcommitted
    CHECK (reserved_storage_bytes >= 0
        AND reserved_storage_bytes <= storage_bytes);
