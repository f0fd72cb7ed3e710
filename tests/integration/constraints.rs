//! Each constraint of the schema: that it holds out what it is there for, and
//! that it is this one which does.

use diesel::connection::SimpleConnection;
use diesel::result::Error as DieselError;
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use harness::Database;
use std::collections::BTreeSet;

/// One row of each table, at the least, all valid: "rest" is an instance that
/// is stopped, "busy" one that runs, "soon" one that is being started.
const ROWS: &str = "
INSERT INTO silo VALUES
    ('00000000-0000-0000-0000-000000000001', 'silo', '', now(), now(), NULL);
INSERT INTO silo_user VALUES
    ('00000000-0000-0000-0000-000000000002',
     '00000000-0000-0000-0000-000000000001', 'user', TRUE, now(), now(), NULL);
INSERT INTO api_token VALUES
    ('00000000-0000-0000-0000-000000000003',
     '00000000-0000-0000-0000-000000000002', repeat('a', 64), now(), NULL);
INSERT INTO project VALUES
    ('00000000-0000-0000-0000-000000000004',
     '00000000-0000-0000-0000-000000000001', 'project', '', now(), now(),
     NULL);
INSERT INTO sled VALUES
    ('00000000-0000-0000-0000-000000000005', '127.0.0.1:1', 'S1', 'P', 1,
     'in_service', 'provisionable', gen_random_uuid(), 8, 1024, 64, 2, 256,
     now(), now(), now(), 'unknown', 16);
INSERT INTO instance (id, project_id, name, description, time_created,
    time_modified, hostname, ncpus, memory_bytes, user_data,
    network_interfaces, state, state_gen, time_state_updated, active_vmm_id,
    pending_start_attempt_id, latest_start_attempt_id, failed_starts,
    reconcile_errors, view_gen, intended_state)
VALUES
    ('00000000-0000-0000-0000-000000000010',
     '00000000-0000-0000-0000-000000000004', 'rest', '', now(), now(), 'rest',
     2, 256, '', '[]', 'no_vmm', 1, now(), NULL, NULL, NULL, 0, 0, 1,
     'stopped'),
    ('00000000-0000-0000-0000-000000000011',
     '00000000-0000-0000-0000-000000000004', 'busy', '', now(), now(), 'busy',
     2, 256, '', '[]', 'vmm', 1, now(),
     '00000000-0000-0000-0000-000000000021', NULL,
     '00000000-0000-0000-0000-000000000031', 0, 0, 1, 'running'),
    ('00000000-0000-0000-0000-000000000012',
     '00000000-0000-0000-0000-000000000004', 'soon', '', now(), now(), 'soon',
     2, 256, '', '[]', 'no_vmm', 1, now(), NULL,
     '00000000-0000-0000-0000-000000000032',
     '00000000-0000-0000-0000-000000000032', 0, 0, 1, 'running');
INSERT INTO start_attempt (id, instance_id, reason, vmm_id, time_started,
    time_ended, outcome, held_back)
VALUES
    ('00000000-0000-0000-0000-000000000031',
     '00000000-0000-0000-0000-000000000011', 'user',
     '00000000-0000-0000-0000-000000000021', now(), now(), 'started', 0),
    ('00000000-0000-0000-0000-000000000032',
     '00000000-0000-0000-0000-000000000012', 'user', NULL, now(), NULL,
     'pending', 0);
INSERT INTO vmm (id, instance_id, sled_id, start_attempt_id, state,
    generation, may_run, ever_ran, unanswered, time_created,
    time_state_updated)
VALUES
    ('00000000-0000-0000-0000-000000000021',
     '00000000-0000-0000-0000-000000000011',
     '00000000-0000-0000-0000-000000000005',
     '00000000-0000-0000-0000-000000000031', 'running', 3, TRUE, TRUE, 0,
     now(), now()),
    ('00000000-0000-0000-0000-000000000022',
     '00000000-0000-0000-0000-000000000010',
     '00000000-0000-0000-0000-000000000005',
     gen_random_uuid(), 'abandoned', 3, TRUE, FALSE, 0, now(), now());
INSERT INTO sled_reservation VALUES
    ('00000000-0000-0000-0000-000000000021',
     '00000000-0000-0000-0000-000000000011',
     '00000000-0000-0000-0000-000000000005', 'active', 2, 256, now());
INSERT INTO silo_quota VALUES
    ('00000000-0000-0000-0000-000000000001', 8, 1024, 64, 2, 256, 16, now());
INSERT INTO affinity_group VALUES
    ('00000000-0000-0000-0000-000000000051',
     '00000000-0000-0000-0000-000000000004', 'anti_affinity', 'apart', '',
     'fail', now(), now(), NULL),
    ('00000000-0000-0000-0000-000000000052',
     '00000000-0000-0000-0000-000000000004', 'affinity', 'together', '',
     'fail', now(), now(), NULL);
INSERT INTO affinity_group_member VALUES
    ('00000000-0000-0000-0000-000000000051',
     '00000000-0000-0000-0000-000000000011');
INSERT INTO affinity_claim VALUES
    ('00000000-0000-0000-0000-000000000051',
     '00000000-0000-0000-0000-000000000021',
     '00000000-0000-0000-0000-000000000011',
     '00000000-0000-0000-0000-000000000005', TRUE);
INSERT INTO disk VALUES
    ('00000000-0000-0000-0000-000000000061',
     '00000000-0000-0000-0000-000000000004', 'placed', '', 16, now(), now(),
     NULL, '00000000-0000-0000-0000-000000000011',
     '00000000-0000-0000-0000-000000000005',
     '00000000-0000-0000-0000-000000000021'),
    ('00000000-0000-0000-0000-000000000062',
     '00000000-0000-0000-0000-000000000004', 'loose', '', 16, now(), now(),
     NULL, NULL, NULL, NULL);
INSERT INTO ssh_key VALUES
    ('00000000-0000-0000-0000-000000000071',
     '00000000-0000-0000-0000-000000000002', 'given', '', 'ssh-rsa A', now(),
     now(), NULL),
    ('00000000-0000-0000-0000-000000000072',
     '00000000-0000-0000-0000-000000000002', 'kept', '', 'ssh-rsa B', now(),
     now(), NULL);
INSERT INTO instance_ssh_key VALUES
    ('00000000-0000-0000-0000-000000000010',
     '00000000-0000-0000-0000-000000000071');
INSERT INTO disk VALUES
    ('00000000-0000-0000-0000-000000000063',
     '00000000-0000-0000-0000-000000000004', 'shared', '', 16, now(), now(),
     NULL, '00000000-0000-0000-0000-000000000011', NULL, NULL, 'distributed');
INSERT INTO snapshot VALUES
    ('00000000-0000-0000-0000-000000000071',
     '00000000-0000-0000-0000-000000000004', 'one', '', 16, 512,
     '00000000-0000-0000-0000-000000000063', TRUE, now(), now(), NULL),
    ('00000000-0000-0000-0000-000000000072',
     '00000000-0000-0000-0000-000000000004', 'two', '', 16, 512,
     '00000000-0000-0000-0000-000000000063', TRUE, now(), now(), NULL);
INSERT INTO image VALUES
    ('00000000-0000-0000-0000-000000000081',
     '00000000-0000-0000-0000-000000000001',
     '00000000-0000-0000-0000-000000000004', 'p1', '', 'debian', '12', 16,
     512, TRUE, now(), now(), NULL),
    ('00000000-0000-0000-0000-000000000082',
     '00000000-0000-0000-0000-000000000001',
     '00000000-0000-0000-0000-000000000004', 'p2', '', 'debian', '12', 16,
     512, TRUE, now(), now(), NULL),
    ('00000000-0000-0000-0000-000000000083',
     '00000000-0000-0000-0000-000000000001', NULL, 's1', '', 'debian', '12',
     16, 512, TRUE, now(), now(), NULL),
    ('00000000-0000-0000-0000-000000000084',
     '00000000-0000-0000-0000-000000000001', NULL, 's2', '', 'debian', '12',
     16, 512, TRUE, now(), now(), NULL);
INSERT INTO blocks_gone VALUES
    ('00000000-0000-0000-0000-000000000091', 'local',
     '00000000-0000-0000-0000-000000000005', 16, now(), 0, now(), NULL);
INSERT INTO saga VALUES
    ('00000000-0000-0000-0000-000000000041', 'instance-start',
     '00000000-0000-0000-0000-000000000012', 'running', '{}',
     gen_random_uuid(), gen_random_uuid(), 1, now(), now(), NULL);
INSERT INTO saga_node_event VALUES
    ('00000000-0000-0000-0000-000000000041', 1, 'started', NULL,
     gen_random_uuid(), now());
INSERT INTO nexus_lease VALUES
    (gen_random_uuid(), '127.0.0.1:2', now(), now(), now(), NULL, NULL);
INSERT INTO idempotency_key
SELECT gen_random_uuid(), u.id, repeat('k', 64), repeat('r', 64), i.id, NULL,
    now()
FROM silo_user u, instance i WHERE i.name = 'rest';
INSERT INTO role_assignment SELECT 'silo', silo_id, id, 'admin', now()
FROM silo_user;
INSERT INTO silo_user_password SELECT id, '$argon2id$v=19$', now(), 0, NULL
FROM silo_user;
INSERT INTO login_guess VALUES (repeat('g', 64), 1, now());
INSERT INTO console_session
SELECT gen_random_uuid(), id, repeat('s', 64), now(), now() FROM silo_user;
INSERT INTO device_auth_request
SELECT gen_random_uuid(), gen_random_uuid(), repeat('d', 64), 'ABCD-EFGH', NULL,
    now(), now(), NULL, NULL, NULL;
INSERT INTO audit_log
SELECT gen_random_uuid(), now(), now(), 'r', 'project_create', '/v1/projects',
    '127.0.0.1', NULL, silo_id, id, 'access_token', gen_random_uuid(), NULL,
    201, NULL, NULL
FROM silo_user;
INSERT INTO sled_join_token
SELECT gen_random_uuid(), repeat('j', 64), now(), now(), gen_random_uuid(),
    NULL, NULL;
";

/// A constraint, and what it must hold out. Each statement would be taken if
/// it were not for that one constraint.
const ATTEMPTS: &[(&str, &str)] = &[
    // One row of metadata.
    (
        "db_metadata_one_row",
        "INSERT INTO db_metadata (singleton, version) VALUES (FALSE, 3)",
    ),
    // Silos and who is in them.
    (
        "silo_live_name",
        "INSERT INTO silo SELECT gen_random_uuid(), name, '', now(), now(), \
             NULL FROM silo",
    ),
    (
        "silo_quota_silo_id_fkey",
        "UPDATE silo_quota SET silo_id = gen_random_uuid()",
    ),
    ("silo_quota_not_negative", "UPDATE silo_quota SET vcpus = -1"),
    ("silo_quota_not_negative", "UPDATE silo_quota SET memory_bytes = -1"),
    ("silo_quota_not_negative", "UPDATE silo_quota SET storage_bytes = -1"),
    ("silo_quota_use_not_negative", "UPDATE silo_quota SET used_vcpus = -1"),
    (
        "silo_quota_use_not_negative",
        "UPDATE silo_quota SET used_memory_bytes = -1",
    ),
    (
        "silo_quota_use_not_negative",
        "UPDATE silo_quota SET used_storage_bytes = -1",
    ),
    (
        "silo_user_silo_id_fkey",
        "UPDATE silo_user SET silo_id = gen_random_uuid()",
    ),
    (
        "silo_user_live_external_id",
        "INSERT INTO silo_user SELECT gen_random_uuid(), silo_id, \
             external_id, FALSE, now(), now(), NULL FROM silo_user",
    ),
    (
        "api_token_silo_user_id_fkey",
        "UPDATE api_token SET silo_user_id = gen_random_uuid()",
    ),
    ("api_token_is_hashed", "UPDATE api_token SET token_hash = 'clear text'"),
    (
        "api_token_hash",
        "INSERT INTO api_token SELECT gen_random_uuid(), silo_user_id, \
             token_hash, now(), NULL FROM api_token",
    ),
    ("project_silo_id_fkey", "UPDATE project SET silo_id = gen_random_uuid()"),
    (
        "project_live_name",
        "INSERT INTO project SELECT gen_random_uuid(), silo_id, name, '', \
             now(), now(), NULL FROM project",
    ),
    // Sleds.
    ("sled_vcpus_not_overcommitted", "UPDATE sled SET reserved_vcpus = 9"),
    ("sled_vcpus_not_overcommitted", "UPDATE sled SET reserved_vcpus = -1"),
    ("sled_vcpus_not_overcommitted", "UPDATE sled SET vcpus = 1"),
    (
        "sled_memory_not_overcommitted",
        "UPDATE sled SET reserved_memory_bytes = 1025",
    ),
    (
        "sled_memory_not_overcommitted",
        "UPDATE sled SET reserved_memory_bytes = -1",
    ),
    ("sled_memory_not_overcommitted", "UPDATE sled SET memory_bytes = 255"),
    (
        "sled_storage_not_overcommitted",
        "UPDATE sled SET reserved_storage_bytes = 65",
    ),
    (
        "sled_storage_not_overcommitted",
        "UPDATE sled SET reserved_storage_bytes = -1",
    ),
    ("sled_storage_not_overcommitted", "UPDATE sled SET storage_bytes = 15"),
    // Instances.
    (
        "instance_project_id_fkey",
        "UPDATE instance SET project_id = gen_random_uuid() \
             WHERE name = 'rest'",
    ),
    (
        "instance_live_name",
        "UPDATE instance SET name = 'busy' WHERE name = 'rest'",
    ),
    (
        "instance_has_a_size",
        "UPDATE instance SET ncpus = 0 WHERE name = 'rest'",
    ),
    (
        "instance_has_a_size",
        "UPDATE instance SET memory_bytes = 0 WHERE name = 'rest'",
    ),
    (
        "instance_vmm_iff_linked",
        "UPDATE instance SET state = 'vmm' WHERE name = 'rest'",
    ),
    (
        "instance_vmm_iff_linked",
        "UPDATE instance SET active_vmm_id = NULL WHERE name = 'busy'",
    ),
    (
        "instance_vmm_iff_linked",
        "UPDATE instance SET state = 'failed' WHERE name = 'busy'",
    ),
    (
        "instance_vmm_iff_linked",
        "UPDATE instance SET active_vmm_id = gen_random_uuid() \
             WHERE name = 'rest'",
    ),
    (
        "instance_target_needs_active",
        "UPDATE instance SET target_vmm_id = gen_random_uuid() \
             WHERE name = 'rest'",
    ),
    (
        "instance_last_failure_whole",
        "UPDATE instance SET last_failure_kind = 'panic' WHERE name = 'rest'",
    ),
    (
        "instance_last_failure_whole",
        "UPDATE instance SET last_failure_message = 'It broke.' \
             WHERE name = 'rest'",
    ),
    (
        "instance_last_failure_whole",
        "UPDATE instance SET time_last_failure = now() WHERE name = 'rest'",
    ),
    (
        "instance_last_failure_whole",
        "UPDATE instance SET last_failure_kind = 'panic', \
             last_failure_message = 'It broke.' WHERE name = 'rest'",
    ),
    (
        "instance_last_failure_whole",
        "UPDATE instance SET last_failure_kind = 'panic', \
             time_last_failure = now() WHERE name = 'rest'",
    ),
    (
        "instance_destroyed_is_deleted",
        "UPDATE instance SET state = 'destroyed' WHERE name = 'rest'",
    ),
    // What omicron#9177 was.
    (
        "instance_wanted_is_pending",
        "UPDATE instance SET intended_state = 'running' WHERE name = 'rest'",
    ),
    (
        "instance_wanted_is_pending",
        "UPDATE instance SET pending_start_attempt_id = NULL \
             WHERE name = 'soon'",
    ),
    (
        "instance_wanted_is_pending",
        "UPDATE instance SET state = 'no_vmm', active_vmm_id = NULL \
             WHERE name = 'busy'",
    ),
    (
        "instance_pending_is_wanted",
        "UPDATE instance SET intended_state = 'stopped' WHERE name = 'soon'",
    ),
    (
        "instance_pending_is_wanted",
        "UPDATE instance SET intended_state = 'destroyed', \
             time_deleted = now() WHERE name = 'soon'",
    ),
    (
        "instance_pending_is_wanted",
        "UPDATE instance SET pending_start_attempt_id = gen_random_uuid() \
             WHERE name = 'rest'",
    ),
    (
        "instance_failed_is_wanted",
        "UPDATE instance SET state = 'failed' WHERE name = 'rest'",
    ),
    (
        "instance_failed_is_wanted",
        "UPDATE instance SET state = 'failed' WHERE name = 'soon'",
    ),
    (
        "instance_deleted_iff_unwanted",
        "UPDATE instance SET time_deleted = now() WHERE name = 'rest'",
    ),
    (
        "instance_deleted_iff_unwanted",
        "UPDATE instance SET intended_state = 'destroyed' WHERE name = 'rest'",
    ),
    // VMMs.
    ("vmm_instance_id_fkey", "UPDATE vmm SET instance_id = gen_random_uuid()"),
    ("vmm_sled_id_fkey", "UPDATE vmm SET sled_id = gen_random_uuid()"),
    (
        "vmm_failure_iff_failed",
        "UPDATE vmm SET state = 'failed', end_reason = 'panic', \
             time_ended = now() WHERE state = 'running'",
    ),
    (
        "vmm_failure_iff_failed",
        "UPDATE vmm SET failure_reason = 'It broke.' WHERE state = 'running'",
    ),
    (
        "vmm_failure_iff_failed",
        "UPDATE vmm SET state = 'destroyed', failure_reason = 'It broke.', \
             end_reason = 'panic', time_ended = now() \
             WHERE state = 'running'",
    ),
    (
        "vmm_end_reason_iff_ended",
        "UPDATE vmm SET state = 'destroyed' WHERE state = 'running'",
    ),
    (
        "vmm_end_reason_iff_ended",
        "UPDATE vmm SET state = 'failed', failure_reason = 'It broke.' \
             WHERE state = 'running'",
    ),
    (
        "vmm_end_reason_iff_ended",
        "UPDATE vmm SET end_reason = 'panic', time_ended = now() \
             WHERE state = 'running'",
    ),
    // To be abandoned is no end.
    (
        "vmm_end_reason_iff_ended",
        "UPDATE vmm SET end_reason = 'gone', time_ended = now() \
             WHERE state = 'abandoned'",
    ),
    (
        "vmm_end_time_iff_ended",
        "UPDATE vmm SET state = 'destroyed', end_reason = 'requested' \
             WHERE state = 'running'",
    ),
    (
        "vmm_end_time_iff_ended",
        "UPDATE vmm SET time_ended = now() WHERE state = 'running'",
    ),
    (
        "vmm_ran_was_allowed",
        "UPDATE vmm SET may_run = FALSE WHERE state = 'running'",
    ),
    // What they hold.
    (
        "sled_reservation_vmm_id_fkey",
        "DELETE FROM affinity_claim; \
         UPDATE sled_reservation SET vmm_id = gen_random_uuid()",
    ),
    (
        "sled_reservation_instance_id_fkey",
        "UPDATE sled_reservation SET instance_id = gen_random_uuid()",
    ),
    (
        "sled_reservation_sled_id_fkey",
        "UPDATE sled_reservation SET sled_id = gen_random_uuid()",
    ),
    (
        "sled_reservation_silo_id_fkey",
        "UPDATE sled_reservation SET silo_id = gen_random_uuid()",
    ),
    ("sled_reservation_has_a_size", "UPDATE sled_reservation SET vcpus = 0"),
    (
        "sled_reservation_has_a_size",
        "UPDATE sled_reservation SET memory_bytes = 0",
    ),
    (
        "sled_reservation_one_per_role",
        "INSERT INTO sled_reservation \
             SELECT vmm.id, r.instance_id, r.sled_id, r.role, 1, 1, now() \
             FROM sled_reservation r, vmm WHERE vmm.state = 'abandoned'",
    ),
    // Groups.
    (
        "affinity_group_project_id_fkey",
        "UPDATE affinity_group SET project_id = gen_random_uuid()",
    ),
    (
        "affinity_group_live_name",
        "INSERT INTO affinity_group SELECT gen_random_uuid(), project_id, \
             kind, name, '', 'allow', now(), now(), NULL FROM affinity_group",
    ),
    (
        "affinity_group_member_group_id_fkey",
        "UPDATE affinity_group_member SET group_id = gen_random_uuid()",
    ),
    (
        "affinity_group_member_instance_id_fkey",
        "UPDATE affinity_group_member SET instance_id = gen_random_uuid()",
    ),
    (
        "affinity_claim_group_id_fkey",
        "UPDATE affinity_claim SET group_id = gen_random_uuid()",
    ),
    (
        "affinity_claim_vmm_id_fkey",
        "UPDATE affinity_claim SET vmm_id = gen_random_uuid()",
    ),
    // What holds nothing of a sled any more is not on it in a group's eyes.
    ("affinity_claim_vmm_id_fkey", "DELETE FROM sled_reservation"),
    // Two of an anti-affinity group on one sled.
    (
        "affinity_claim_exclusive",
        "INSERT INTO sled_reservation \
             SELECT vmm.id, r.instance_id, r.sled_id, 'abandoned', 1, 1, now() \
             FROM sled_reservation r, vmm WHERE vmm.state = 'abandoned'; \
         INSERT INTO affinity_claim \
             SELECT c.group_id, vmm.id, c.instance_id, c.sled_id, TRUE \
             FROM affinity_claim c, vmm WHERE vmm.state = 'abandoned'",
    ),
    // Disks.
    ("disk_project_id_fkey", "UPDATE disk SET project_id = gen_random_uuid()"),
    ("disk_live_name", "UPDATE disk SET name = 'placed' WHERE name = 'loose'"),
    (
        "disk_instance_id_fkey",
        "UPDATE disk SET instance_id = gen_random_uuid()",
    ),
    (
        "disk_sled_id_fkey",
        "UPDATE disk SET sled_id = gen_random_uuid() WHERE name = 'placed'",
    ),
    ("disk_has_a_size", "UPDATE disk SET size_bytes = 0"),
    ("disk_block_size", "UPDATE disk SET block_size = 1000"),
    (
        "disk_distributed_is_nowhere",
        "UPDATE disk SET blocks_id = gen_random_uuid() WHERE name = 'shared'",
    ),
    (
        "disk_local_is_blank",
        "UPDATE disk SET read_only = TRUE WHERE name = 'loose'",
    ),
    (
        "disk_local_is_blank",
        "UPDATE disk SET state = 'import_ready' WHERE name = 'loose'",
    ),
    (
        "disk_importing_is_detached",
        "UPDATE disk SET state = 'finalizing' WHERE name = 'shared'",
    ),
    // Snapshots and images.
    (
        "snapshot_project_id_fkey",
        "UPDATE snapshot SET project_id = gen_random_uuid()",
    ),
    (
        "snapshot_disk_id_fkey",
        "UPDATE snapshot SET disk_id = gen_random_uuid()",
    ),
    (
        "snapshot_live_name",
        "UPDATE snapshot SET name = 'one' WHERE name = 'two'",
    ),
    ("snapshot_has_a_size", "UPDATE snapshot SET size_bytes = 0"),
    ("snapshot_block_size", "UPDATE snapshot SET block_size = 0"),
    ("image_silo_id_fkey", "UPDATE image SET silo_id = gen_random_uuid()"),
    (
        "image_project_id_fkey",
        "UPDATE image SET project_id = gen_random_uuid() WHERE name = 'p1'",
    ),
    (
        "image_live_name_in_project",
        "UPDATE image SET name = 'p1' WHERE name = 'p2'",
    ),
    (
        "image_live_name_in_silo",
        "UPDATE image SET name = 's1' WHERE name = 's2'",
    ),
    ("image_has_a_size", "UPDATE image SET size_bytes = 0"),
    ("image_block_size", "UPDATE image SET block_size = 0"),
    // Blocks that are to be gone.
    (
        "blocks_gone_sled_id_fkey",
        "UPDATE blocks_gone SET sled_id = gen_random_uuid()",
    ),
    (
        "blocks_gone_local_iff_somewhere",
        "UPDATE blocks_gone SET place = 'store'",
    ),
    (
        "disk_deleted_holds_nothing",
        "UPDATE disk SET time_deleted = now(), sled_id = NULL, \
             allocated_by = NULL WHERE name = 'placed'",
    ),
    (
        "disk_deleted_holds_nothing",
        "UPDATE disk SET time_deleted = now(), instance_id = NULL \
             WHERE name = 'placed'",
    ),
    (
        "disk_allocated_whole",
        "UPDATE disk SET allocated_by = gen_random_uuid() \
             WHERE name = 'loose'",
    ),
    (
        "disk_allocated_whole",
        "UPDATE disk SET allocated_by = NULL WHERE name = 'placed'",
    ),
    // SSH keys.
    (
        "ssh_key_silo_user_id_fkey",
        "UPDATE ssh_key SET silo_user_id = gen_random_uuid()",
    ),
    (
        "ssh_key_live_name",
        "UPDATE ssh_key SET name = 'given' WHERE name = 'kept'",
    ),
    (
        "instance_ssh_key_instance_id_fkey",
        "UPDATE instance_ssh_key SET instance_id = gen_random_uuid()",
    ),
    (
        "instance_ssh_key_ssh_key_id_fkey",
        "UPDATE instance_ssh_key SET ssh_key_id = gen_random_uuid()",
    ),
    // Attempts.
    (
        "start_attempt_instance_id_fkey",
        "UPDATE start_attempt SET instance_id = gen_random_uuid()",
    ),
    (
        "start_attempt_kind_iff_failed",
        "UPDATE start_attempt SET outcome = 'failed' \
             WHERE outcome = 'started'",
    ),
    (
        "start_attempt_kind_iff_failed",
        "UPDATE start_attempt SET failure_kind = 'internal', \
             failure_message = 'It broke.', failure_transient = FALSE, \
             failure_details = '{}' WHERE outcome = 'started'",
    ),
    (
        "start_attempt_kind_iff_failed",
        "UPDATE start_attempt SET failure_kind = 'internal', \
             failure_message = 'It broke.', failure_transient = FALSE, \
             failure_details = '{}' WHERE outcome = 'pending'",
    ),
    (
        "start_attempt_failure_whole",
        "UPDATE start_attempt SET outcome = 'failed', \
             failure_kind = 'internal', failure_transient = FALSE, \
             failure_details = '{}' WHERE outcome = 'started'",
    ),
    (
        "start_attempt_failure_whole",
        "UPDATE start_attempt SET outcome = 'failed', \
             failure_kind = 'internal', failure_message = 'It broke.', \
             failure_details = '{}' WHERE outcome = 'started'",
    ),
    (
        "start_attempt_failure_whole",
        "UPDATE start_attempt SET outcome = 'failed', \
             failure_kind = 'internal', failure_message = 'It broke.', \
             failure_transient = FALSE WHERE outcome = 'started'",
    ),
    (
        "start_attempt_failure_whole",
        "UPDATE start_attempt SET failure_message = 'It broke.' \
             WHERE outcome = 'started'",
    ),
    (
        "start_attempt_ended_iff_not_pending",
        "UPDATE start_attempt SET time_ended = now() \
             WHERE outcome = 'pending'",
    ),
    (
        "start_attempt_ended_iff_not_pending",
        "UPDATE start_attempt SET outcome = 'superseded' \
             WHERE outcome = 'pending'",
    ),
    (
        "start_attempt_ended_iff_not_pending",
        "UPDATE start_attempt SET time_ended = NULL WHERE outcome = 'started'",
    ),
    (
        "start_attempt_one_pending",
        "INSERT INTO start_attempt (id, instance_id, reason, time_started, \
             outcome, held_back) \
         SELECT gen_random_uuid(), instance_id, 'user', now(), 'pending', 0 \
             FROM start_attempt WHERE outcome = 'pending'",
    ),
    // Sagas.
    ("saga_ended_iff_over", "UPDATE saga SET state = 'done'"),
    ("saga_ended_iff_over", "UPDATE saga SET state = 'abandoned'"),
    ("saga_ended_iff_over", "UPDATE saga SET time_ended = now()"),
    (
        "saga_ended_iff_over",
        "UPDATE saga SET state = 'unwinding', time_ended = now()",
    ),
    (
        "saga_one_unfinished",
        "INSERT INTO saga SELECT gen_random_uuid(), name, instance_id, \
             'unwinding', dag, creator_sec, current_sec, 1, now(), now(), \
             NULL FROM saga",
    ),
    (
        "saga_node_event_saga_id_fkey",
        "UPDATE saga_node_event SET saga_id = gen_random_uuid()",
    ),
    (
        "nexus_lease_taken_whole",
        "UPDATE nexus_lease SET taken_by = gen_random_uuid()",
    ),
    ("nexus_lease_taken_whole", "UPDATE nexus_lease SET time_taken = now()"),
    (
        "idempotency_key_silo_user_id_fkey",
        "UPDATE idempotency_key SET silo_user_id = gen_random_uuid()",
    ),
    (
        "idempotency_key_of_user",
        "INSERT INTO idempotency_key SELECT gen_random_uuid(), silo_user_id, \
             key_hash, 'other', instance_id, NULL, now() FROM idempotency_key",
    ),
    // Who may what, and by what they show who they are.
    ("silo_ttl_is_positive", "UPDATE silo SET device_token_max_ttl_secs = 0"),
    (
        "role_assignment_silo_user_id_fkey",
        "UPDATE role_assignment SET silo_user_id = gen_random_uuid()",
    ),
    (
        "role_assignment_one_fleet",
        "UPDATE role_assignment SET resource = 'fleet'",
    ),
    (
        "role_assignment_one_fleet",
        "UPDATE role_assignment \
             SET resource_id = '00000000-0000-0000-0000-000000000000'",
    ),
    (
        "role_assignment_fleet_has_the_role",
        "UPDATE role_assignment SET resource = 'fleet', \
             resource_id = '00000000-0000-0000-0000-000000000000', \
             role_name = 'limited_collaborator'",
    ),
    (
        "silo_user_password_silo_user_id_fkey",
        "UPDATE silo_user_password SET silo_user_id = gen_random_uuid()",
    ),
    (
        "silo_user_password_is_hashed",
        "UPDATE silo_user_password SET hash = 'clear text'",
    ),
    (
        "silo_user_password_failures_have_a_time",
        "UPDATE silo_user_password SET failures = 1",
    ),
    (
        "silo_user_password_failures_have_a_time",
        "UPDATE silo_user_password \
             SET failures = -1, time_last_failure = now()",
    ),
    ("login_guess_is_hashed", "UPDATE login_guess SET name_hash = 'main/ann'"),
    (
        "login_guess_failures_not_negative",
        "UPDATE login_guess SET failures = -1",
    ),
    (
        "console_session_silo_user_id_fkey",
        "UPDATE console_session SET silo_user_id = gen_random_uuid()",
    ),
    (
        "console_session_is_hashed",
        "UPDATE console_session SET token_hash = 'clear text'",
    ),
    (
        "console_session_hash",
        "INSERT INTO console_session SELECT gen_random_uuid(), silo_user_id, \
             token_hash, now(), now() FROM console_session",
    ),
    (
        "device_auth_request_is_hashed",
        "UPDATE device_auth_request SET device_code_hash = 'clear text'",
    ),
    (
        "device_auth_request_ttl_is_positive",
        "UPDATE device_auth_request SET ttl_secs = 0",
    ),
    (
        "device_auth_request_confirmed_whole",
        "UPDATE device_auth_request SET time_confirmed = now()",
    ),
    (
        "device_auth_request_denied_or_confirmed",
        "UPDATE device_auth_request SET time_denied = now(), \
             time_confirmed = now(), \
             silo_user_id = (SELECT min(id::TEXT)::UUID FROM silo_user)",
    ),
    (
        "device_auth_request_used_by_who_confirmed",
        "UPDATE device_auth_request SET time_used = now()",
    ),
    (
        "device_auth_request_silo_user_id_fkey",
        "UPDATE device_auth_request \
             SET silo_user_id = gen_random_uuid(), time_confirmed = now()",
    ),
    (
        "device_auth_request_device_code",
        "INSERT INTO device_auth_request SELECT gen_random_uuid(), client_id, \
             device_code_hash, 'OTHE-RONE', NULL, now(), now() \
             FROM device_auth_request",
    ),
    (
        "device_auth_request_user_code",
        "INSERT INTO device_auth_request SELECT gen_random_uuid(), client_id, \
             repeat('o', 64), user_code, NULL, now(), now() \
             FROM device_auth_request",
    ),
    ("audit_log_actor_whole", "UPDATE audit_log SET silo_id = NULL"),
    ("audit_log_actor_whole", "UPDATE audit_log SET auth_method = NULL"),
    ("audit_log_actor_whole", "UPDATE audit_log SET credential_id = NULL"),
    (
        "audit_log_result_after_completion",
        "UPDATE audit_log SET time_completed = NULL",
    ),
    (
        "audit_log_error_has_a_status",
        "UPDATE audit_log SET http_status = NULL, error_code = 'Conflict'",
    ),
    (
        "sled_join_token_is_hashed",
        "UPDATE sled_join_token SET token_hash = 'clear text'",
    ),
    (
        "sled_join_token_used_whole",
        "UPDATE sled_join_token SET time_used = now()",
    ),
    (
        "sled_join_token_hash",
        "INSERT INTO sled_join_token SELECT gen_random_uuid(), token_hash, \
             now(), now(), sled_id FROM sled_join_token",
    ),
];

/// What a constraint must let by, since it speaks of the living, or of one
/// side only.
const TAKEN: &[(&str, &str)] = &[
    (
        "a name whose owner is deleted is free",
        "UPDATE instance SET time_deleted = now(), \
             intended_state = 'destroyed' WHERE name = 'rest'; \
         UPDATE instance SET name = 'rest' WHERE name = 'soon'",
    ),
    (
        "a deleted project's name is free",
        "UPDATE project SET time_deleted = now(); \
         INSERT INTO project SELECT gen_random_uuid(), silo_id, name, '', \
             now(), now(), NULL FROM project",
    ),
    (
        "a deleted silo's name is free",
        "UPDATE silo SET time_deleted = now(); \
         INSERT INTO silo SELECT gen_random_uuid(), name, '', now(), now(), \
             NULL FROM silo",
    ),
    (
        "a deleted user's name is free",
        "UPDATE silo_user SET time_deleted = now(); \
         INSERT INTO silo_user SELECT gen_random_uuid(), silo_id, \
             external_id, FALSE, now(), now(), NULL FROM silo_user",
    ),
    (
        "what is abandoned is outside of one reservation for each role",
        "UPDATE sled_reservation SET role = 'abandoned'; \
         INSERT INTO sled_reservation \
             SELECT vmm.id, r.instance_id, r.sled_id, r.role, 1, 1, now() \
             FROM sled_reservation r, vmm WHERE vmm.state = 'abandoned'",
    ),
    (
        "an attempt follows one that ended",
        "INSERT INTO start_attempt (id, instance_id, reason, time_started, \
             outcome, held_back) \
         SELECT gen_random_uuid(), instance_id, 'user', now(), 'pending', 0 \
             FROM start_attempt WHERE outcome = 'started'",
    ),
    (
        "a saga follows one that is over",
        "UPDATE saga SET state = 'done', time_ended = now(); \
         INSERT INTO saga SELECT gen_random_uuid(), name, instance_id, \
             'running', dag, creator_sec, current_sec, 1, now(), now(), \
             NULL FROM saga",
    ),
    (
        "a sled may be full",
        "UPDATE sled SET reserved_vcpus = vcpus, \
             reserved_memory_bytes = memory_bytes, \
             reserved_storage_bytes = storage_bytes",
    ),
    (
        "a quota may be lowered below what is used",
        "UPDATE silo_quota SET vcpus = 0, memory_bytes = 0, storage_bytes = 0",
    ),
    (
        "a group's name is its own among its kind",
        "UPDATE affinity_group SET name = 'together'",
    ),
    (
        "a deleted group's name is free",
        "UPDATE affinity_group SET time_deleted = now(); \
         INSERT INTO affinity_group SELECT gen_random_uuid(), project_id, \
             kind, name, '', 'allow', now(), now(), NULL FROM affinity_group",
    ),
    (
        "two of a group that does not insist may share a sled",
        "UPDATE affinity_claim SET exclusive = FALSE; \
         INSERT INTO sled_reservation \
             SELECT vmm.id, r.instance_id, r.sled_id, 'abandoned', 1, 1, now() \
             FROM sled_reservation r, vmm WHERE vmm.state = 'abandoned'; \
         INSERT INTO affinity_claim \
             SELECT c.group_id, vmm.id, c.instance_id, c.sled_id, FALSE \
             FROM affinity_claim c, vmm WHERE vmm.state = 'abandoned'",
    ),
    (
        "what is of two groups is on its sled for both",
        "INSERT INTO affinity_claim \
             SELECT g.id, c.vmm_id, c.instance_id, c.sled_id, TRUE \
             FROM affinity_claim c, affinity_group g WHERE g.id <> c.group_id",
    ),
    (
        "a deleted disk's name is free",
        "UPDATE disk SET time_deleted = now() WHERE name = 'loose'; \
         UPDATE disk SET name = 'loose' WHERE name = 'placed'",
    ),
    (
        "a disk's blocks stay where they are when it is detached",
        "UPDATE disk SET instance_id = NULL",
    ),
    (
        "wanted and failed, nobody starts it",
        "UPDATE instance SET state = 'failed', active_vmm_id = NULL \
             WHERE name = 'busy'",
    ),
];

async fn database() -> Database {
    let database = Database::create().await;
    database.try_sql(ROWS).unwrap();
    database
}

/// The name of the constraint that refused, or what else came of it.
fn refused_by(result: Result<(), DieselError>) -> String {
    match result {
        Ok(()) => "nothing".to_string(),
        Err(DieselError::DatabaseError(_, info)) => info
            .constraint_name()
            .map_or_else(|| info.message().to_string(), str::to_string),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn each_constraint_holds_out_what_it_is_there_for() {
    let database = database().await;
    let mut conn = database.connect();
    for (constraint, sql) in ATTEMPTS {
        assert_eq!(
            refused_by(conn.batch_execute(sql)),
            *constraint,
            "what refuses: {sql}"
        );
    }
}

#[tokio::test]
async fn no_other_constraint_would_hold_that_out() {
    let database = database().await;
    let mut conn = database.connect();
    let all = constraints(&mut conn);
    for (constraint, sql) in ATTEMPTS {
        let drop = &all.iter().find(|c| c.name == *constraint).unwrap().drop;
        conn.batch_execute(&format!("BEGIN; {drop}")).unwrap();
        let refused = refused_by(conn.batch_execute(sql));
        conn.batch_execute("ROLLBACK").unwrap();
        assert_eq!(refused, "nothing", "without {constraint}: {sql}");
    }
}

#[tokio::test]
async fn the_constraints_let_by_what_is_right() {
    let database = database().await;
    let mut conn = database.connect();
    for (what, sql) in TAKEN {
        conn.batch_execute("BEGIN").unwrap();
        let refused = refused_by(conn.batch_execute(sql));
        conn.batch_execute("ROLLBACK").unwrap();
        assert_eq!(refused, "nothing", "{what}");
    }
}

#[tokio::test]
async fn no_constraint_is_untried() {
    let database = Database::create().await;
    let catalog: BTreeSet<String> = constraints(&mut database.connect())
        .into_iter()
        .map(|constraint| constraint.name)
        .collect();
    let tried: BTreeSet<String> =
        ATTEMPTS.iter().map(|(name, _)| (*name).to_string()).collect();
    assert_eq!(catalog, tried, "left: in the database; right: tried here");
}

#[derive(QueryableByName)]
struct Constraint {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
    /// The statement that drops it.
    #[diesel(sql_type = diesel::sql_types::Text)]
    drop: String,
}

/// The CHECKs, the foreign keys and the unique indexes; primary keys are
/// random ids.
fn constraints(conn: &mut PgConnection) -> Vec<Constraint> {
    sql_query(
        "SELECT c.conname::TEXT AS name, \
             concat('ALTER TABLE ', r.relname, ' DROP CONSTRAINT ', \
                 c.conname) AS drop \
         FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid \
         WHERE c.contype IN ('c', 'f') \
             AND c.connamespace = 'public'::regnamespace \
         UNION ALL \
         SELECT x.relname::TEXT, concat('DROP INDEX ', x.relname) \
         FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
         WHERE i.indisunique AND NOT i.indisprimary \
             AND x.relnamespace = 'public'::regnamespace",
    )
    .load(conn)
    .unwrap()
}
