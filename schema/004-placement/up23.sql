CREATE UNIQUE INDEX IF NOT EXISTS disk_live_name
    ON disk (project_id, name) WHERE time_deleted IS NULL;
