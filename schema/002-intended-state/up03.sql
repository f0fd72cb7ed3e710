-- What was wanted is known only from what is: a VMM, or a start under way, was
-- wanted; the rest is taken as stopped, as a user finds it.
UPDATE instance
SET intended_state = CASE
    WHEN state = 'destroyed' OR time_deleted IS NOT NULL
        THEN 'destroyed'::intended_state
    WHEN state = 'vmm' OR pending_start_attempt_id IS NOT NULL
        THEN 'running'::intended_state
    ELSE 'stopped'::intended_state
END
WHERE intended_state IS NULL;
