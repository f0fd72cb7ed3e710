ALTER TABLE instance ADD CONSTRAINT instance_pending_is_wanted CHECK (
    pending_start_attempt_id IS NULL OR intended_state = 'running');
