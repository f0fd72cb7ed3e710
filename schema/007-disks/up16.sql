ALTER TABLE disk ADD CONSTRAINT disk_importing_is_detached CHECK (
    instance_id IS NULL
    OR state IN ('creating', 'ready', 'faulted'));
