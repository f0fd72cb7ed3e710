CREATE INDEX IF NOT EXISTS console_session_by_user
    ON console_session (silo_user_id, id);
