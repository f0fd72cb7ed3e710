CREATE INDEX IF NOT EXISTS image_live_id_in_silo
    ON image (silo_id, id)
    WHERE time_deleted IS NULL AND project_id IS NULL;
