CREATE INDEX IF NOT EXISTS affinity_claim_by_vmm ON affinity_claim (vmm_id);
