CREATE UNIQUE INDEX IF NOT EXISTS affinity_group_live_name
    ON affinity_group (project_id, kind, name) WHERE time_deleted IS NULL;
