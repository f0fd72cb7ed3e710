CREATE TABLE IF NOT EXISTS blocks_gone (
    id UUID PRIMARY KEY,
    place blocks_place NOT NULL,
    sled_id UUID REFERENCES sled (id),
    size_bytes INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    tries INT8 NOT NULL,
    next_try_at TIMESTAMPTZ NOT NULL,
    last_error VARCHAR(4096),
    CONSTRAINT blocks_gone_local_iff_somewhere
        CHECK ((place = 'local') = (sled_id IS NOT NULL))
);
