ALTER TABLE silo ADD COLUMN IF NOT EXISTS device_token_max_ttl_secs INT8;
