CREATE INDEX IF NOT EXISTS snapshot_live_id
    ON snapshot (project_id, id) WHERE time_deleted IS NULL;
