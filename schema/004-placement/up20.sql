CREATE UNIQUE INDEX IF NOT EXISTS affinity_claim_exclusive
    ON affinity_claim (group_id, sled_id) WHERE exclusive;
