CREATE TABLE IF NOT EXISTS sled_join_token (
    id UUID PRIMARY KEY,
    token_hash VARCHAR(64) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_expires TIMESTAMPTZ NOT NULL,
    sled_id UUID NOT NULL,
    key_hash VARCHAR(64),
    time_used TIMESTAMPTZ,
    CONSTRAINT sled_join_token_is_hashed CHECK (length(token_hash) = 64),
    CONSTRAINT sled_join_token_used_whole
        CHECK ((key_hash IS NULL) = (time_used IS NULL))
);
