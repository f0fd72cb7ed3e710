CREATE INDEX IF NOT EXISTS console_session_by_time_created
    ON console_session (time_created);
