CREATE UNIQUE INDEX IF NOT EXISTS snapshot_live_name
    ON snapshot (project_id, name) WHERE time_deleted IS NULL;
