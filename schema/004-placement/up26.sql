CREATE INDEX IF NOT EXISTS disk_by_sled
    ON disk (sled_id) WHERE sled_id IS NOT NULL;
