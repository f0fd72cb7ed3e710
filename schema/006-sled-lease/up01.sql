ALTER TABLE sled
    ADD COLUMN IF NOT EXISTS fences_after_ms INT8;
