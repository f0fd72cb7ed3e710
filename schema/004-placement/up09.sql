ALTER TABLE instance
    ADD COLUMN IF NOT EXISTS cpu_platform instance_cpu_platform;
