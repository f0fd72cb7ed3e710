ALTER TABLE silo ADD CONSTRAINT silo_ttl_is_positive
    CHECK (device_token_max_ttl_secs > 0);
