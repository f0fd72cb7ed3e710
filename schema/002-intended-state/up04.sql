-- 'failed' now says that it should run, which nothing here does.
UPDATE instance
SET state = 'no_vmm', state_gen = state_gen + 1, view_gen = view_gen + 1
WHERE state = 'failed' AND intended_state = 'stopped';
