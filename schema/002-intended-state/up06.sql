-- 'failed' now says that it should run and that nobody is starting it, which
-- is so for nothing here.
UPDATE instance
SET state = 'no_vmm', state_gen = state_gen + 1, view_gen = view_gen + 1
WHERE state = 'failed'
    AND (intended_state <> 'running' OR pending_start_attempt_id IS NOT NULL);
