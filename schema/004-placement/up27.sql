CREATE INDEX IF NOT EXISTS disk_by_allocation
    ON disk (allocated_by) WHERE allocated_by IS NOT NULL;
