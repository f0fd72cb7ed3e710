ALTER TABLE disk ADD COLUMN IF NOT EXISTS
    state disk_state NOT NULL DEFAULT 'ready';
