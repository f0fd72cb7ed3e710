CREATE INDEX IF NOT EXISTS blocks_gone_by_time ON blocks_gone (next_try_at);
