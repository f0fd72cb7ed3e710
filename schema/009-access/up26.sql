CREATE INDEX IF NOT EXISTS audit_log_incomplete
    ON audit_log (time_started) WHERE time_completed IS NULL;
