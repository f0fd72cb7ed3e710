ALTER TABLE instance ADD CONSTRAINT instance_deleted_iff_unwanted CHECK (
    (intended_state = 'destroyed') = (time_deleted IS NOT NULL));
