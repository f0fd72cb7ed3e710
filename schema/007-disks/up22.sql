CREATE INDEX IF NOT EXISTS image_live_id_in_project
    ON image (project_id, id)
    WHERE time_deleted IS NULL AND project_id IS NOT NULL;
