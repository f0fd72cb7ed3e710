CREATE TABLE IF NOT EXISTS ssh_key (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    public_key VARCHAR(8192) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);
