CREATE TABLE IF NOT EXISTS idempotency_key (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    key_hash VARCHAR(64) NOT NULL,
    request_hash VARCHAR(64) NOT NULL,
    instance_id UUID NOT NULL,
    answer JSONB,
    time_created TIMESTAMPTZ NOT NULL
);
