CREATE INDEX IF NOT EXISTS affinity_group_member_by_instance
    ON affinity_group_member (instance_id, group_id);
