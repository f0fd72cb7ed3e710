ALTER TABLE disk ADD CONSTRAINT disk_distributed_is_nowhere CHECK (
    backend = 'local' OR (sled_id IS NULL AND blocks_id IS NULL));
