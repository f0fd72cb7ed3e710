CREATE INDEX IF NOT EXISTS sled_join_token_by_time_expires
    ON sled_join_token (time_expires);
