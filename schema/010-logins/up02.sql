CREATE INDEX IF NOT EXISTS login_guess_by_time_last
    ON login_guess (time_last);
