CREATE UNIQUE INDEX IF NOT EXISTS ssh_key_live_name
    ON ssh_key (silo_user_id, name) WHERE time_deleted IS NULL;
