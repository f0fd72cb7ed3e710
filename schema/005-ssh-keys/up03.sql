CREATE INDEX IF NOT EXISTS ssh_key_live_id
    ON ssh_key (silo_user_id, id) WHERE time_deleted IS NULL;
