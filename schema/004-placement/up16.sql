CREATE INDEX IF NOT EXISTS affinity_group_live_id
    ON affinity_group (project_id, kind, id) WHERE time_deleted IS NULL;
