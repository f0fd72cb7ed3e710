CREATE INDEX IF NOT EXISTS disk_by_instance
    ON disk (instance_id, id) WHERE instance_id IS NOT NULL;
