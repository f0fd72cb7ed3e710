CREATE TABLE IF NOT EXISTS silo_user_password (
    silo_user_id UUID PRIMARY KEY REFERENCES silo_user (id),
    hash VARCHAR(256) NOT NULL,
    time_set TIMESTAMPTZ NOT NULL,
    failures INT8 NOT NULL DEFAULT 0,
    time_last_failure TIMESTAMPTZ,
    CONSTRAINT silo_user_password_is_hashed CHECK (hash LIKE '$argon2id$%'),
    CONSTRAINT silo_user_password_failures_have_a_time CHECK (
        failures >= 0 AND (failures = 0) = (time_last_failure IS NULL))
);
