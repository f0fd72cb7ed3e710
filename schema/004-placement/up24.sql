CREATE INDEX IF NOT EXISTS disk_live_id
    ON disk (project_id, id) WHERE time_deleted IS NULL;
