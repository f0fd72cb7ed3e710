UPDATE instance
SET pending_start_attempt_id = NULL,
    state_gen = state_gen + 1, view_gen = view_gen + 1
WHERE pending_start_attempt_id IS NOT NULL AND intended_state = 'destroyed';
