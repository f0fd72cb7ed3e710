CREATE INDEX IF NOT EXISTS snapshot_being_made
    ON snapshot (disk_id) WHERE NOT made AND time_deleted IS NULL;
