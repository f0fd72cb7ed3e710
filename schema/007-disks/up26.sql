CREATE INDEX IF NOT EXISTS blocks_gone_by_sled
    ON blocks_gone (sled_id) WHERE sled_id IS NOT NULL;
