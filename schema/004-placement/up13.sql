-- Nobody had a quota, so each gets one that it does not feel: 10^9 vCPUs and
-- 1 EiB of memory and of storage.
INSERT INTO silo_quota (silo_id, vcpus, memory_bytes, storage_bytes,
    used_vcpus, used_memory_bytes, used_storage_bytes, time_modified)
SELECT s.id, 1000000000, 1152921504606846976, 1152921504606846976,
    COALESCE(sum(r.vcpus), 0), COALESCE(sum(r.memory_bytes), 0), 0, now()
FROM silo s LEFT JOIN sled_reservation r ON r.silo_id = s.id
GROUP BY s.id
ON CONFLICT (silo_id) DO NOTHING;
