CREATE UNIQUE INDEX IF NOT EXISTS console_session_hash
    ON console_session (token_hash);
