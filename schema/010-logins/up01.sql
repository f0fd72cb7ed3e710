CREATE TABLE IF NOT EXISTS login_guess (
    name_hash VARCHAR(64) PRIMARY KEY,
    failures INT8 NOT NULL,
    time_last TIMESTAMPTZ NOT NULL,
    CONSTRAINT login_guess_is_hashed CHECK (length(name_hash) = 64),
    CONSTRAINT login_guess_failures_not_negative CHECK (failures >= 0)
);
