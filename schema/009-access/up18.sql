CREATE INDEX IF NOT EXISTS api_token_by_user
    ON api_token (silo_user_id, id);
