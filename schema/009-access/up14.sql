CREATE TABLE IF NOT EXISTS console_session (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    token_hash VARCHAR(64) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_last_used TIMESTAMPTZ NOT NULL,
    CONSTRAINT console_session_is_hashed CHECK (length(token_hash) = 64)
);
