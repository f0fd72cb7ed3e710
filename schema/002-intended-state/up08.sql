ALTER TABLE instance ADD CONSTRAINT instance_wanted_is_pending CHECK (
    NOT (intended_state = 'running' AND state = 'no_vmm'
        AND pending_start_attempt_id IS NULL));
