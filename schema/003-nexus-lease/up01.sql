CREATE TABLE IF NOT EXISTS nexus_lease (
    id UUID PRIMARY KEY,
    internal_address VARCHAR(64) NOT NULL,
    time_started TIMESTAMPTZ NOT NULL,
    lease_expires TIMESTAMPTZ NOT NULL,
    steady_since TIMESTAMPTZ NOT NULL,
    taken_by UUID,
    time_taken TIMESTAMPTZ,
    CONSTRAINT nexus_lease_taken_whole
        CHECK ((taken_by IS NULL) = (time_taken IS NULL))
);
