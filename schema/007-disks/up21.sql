CREATE UNIQUE INDEX IF NOT EXISTS image_live_name_in_silo
    ON image (silo_id, name)
    WHERE time_deleted IS NULL AND project_id IS NULL;
