ALTER TABLE disk ADD COLUMN IF NOT EXISTS
    backend disk_backend NOT NULL DEFAULT 'local';
