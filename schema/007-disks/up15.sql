ALTER TABLE disk ADD CONSTRAINT disk_local_is_blank CHECK (
    backend = 'distributed' OR (state = 'ready' AND NOT read_only
        AND snapshot_id IS NULL AND image_id IS NULL));
