ALTER TABLE instance ADD CONSTRAINT instance_failed_is_wanted CHECK (
    state <> 'failed' OR (intended_state = 'running'
        AND pending_start_attempt_id IS NULL));
