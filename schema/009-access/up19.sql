CREATE INDEX IF NOT EXISTS api_token_by_time_expires
    ON api_token (time_expires);
