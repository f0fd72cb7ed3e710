CREATE UNIQUE INDEX IF NOT EXISTS sled_join_token_hash
    ON sled_join_token (token_hash);
