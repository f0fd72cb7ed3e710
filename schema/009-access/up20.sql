CREATE TABLE IF NOT EXISTS device_auth_request (
    id UUID PRIMARY KEY,
    client_id UUID NOT NULL,
    device_code_hash VARCHAR(64) NOT NULL,
    user_code VARCHAR(16) NOT NULL,
    ttl_secs INT8,
    time_created TIMESTAMPTZ NOT NULL,
    time_expires TIMESTAMPTZ NOT NULL,
    time_last_polled TIMESTAMPTZ,
    silo_user_id UUID REFERENCES silo_user (id),
    time_confirmed TIMESTAMPTZ,
    token_expires_by TIMESTAMPTZ,
    time_denied TIMESTAMPTZ,
    time_used TIMESTAMPTZ,
    CONSTRAINT device_auth_request_is_hashed
        CHECK (length(device_code_hash) = 64),
    CONSTRAINT device_auth_request_ttl_is_positive CHECK (ttl_secs > 0),
    CONSTRAINT device_auth_request_confirmed_whole
        CHECK ((silo_user_id IS NULL) = (time_confirmed IS NULL)),
    CONSTRAINT device_auth_request_denied_or_confirmed
        CHECK (time_denied IS NULL OR time_confirmed IS NULL),
    CONSTRAINT device_auth_request_used_by_who_confirmed
        CHECK (time_used IS NULL OR time_confirmed IS NOT NULL)
);
