CREATE INDEX IF NOT EXISTS audit_log_by_time_completed
    ON audit_log (time_completed, id);
