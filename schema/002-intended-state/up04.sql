-- A start that a deletion overtook is over; nobody would end it any more.
UPDATE start_attempt
SET outcome = 'superseded', time_ended = now()
WHERE outcome = 'pending' AND instance_id IN (
    SELECT id FROM instance WHERE intended_state = 'destroyed');
