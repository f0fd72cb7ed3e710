CREATE TABLE IF NOT EXISTS affinity_claim (
    group_id UUID NOT NULL REFERENCES affinity_group (id),
    vmm_id UUID NOT NULL REFERENCES sled_reservation (vmm_id),
    instance_id UUID NOT NULL,
    sled_id UUID NOT NULL,
    exclusive BOOL NOT NULL,
    PRIMARY KEY (group_id, vmm_id)
);
