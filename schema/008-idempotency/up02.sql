CREATE UNIQUE INDEX IF NOT EXISTS idempotency_key_of_user
    ON idempotency_key (silo_user_id, key_hash);
