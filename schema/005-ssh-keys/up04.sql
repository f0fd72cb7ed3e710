CREATE TABLE IF NOT EXISTS instance_ssh_key (
    instance_id UUID NOT NULL REFERENCES instance (id),
    ssh_key_id UUID NOT NULL REFERENCES ssh_key (id),
    PRIMARY KEY (instance_id, ssh_key_id)
);
