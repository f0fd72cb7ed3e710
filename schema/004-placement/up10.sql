ALTER TABLE sled_reservation
    ADD COLUMN IF NOT EXISTS silo_id UUID REFERENCES silo (id);
