-- The schema as it is now: version 10. `nexus` applies this file to an empty
-- database; an older one takes the steps of the numbered folders instead.
-- Both ways must end in the same catalog (tests/integration/schema.rs).
--
-- Everything here means the same to PostgreSQL 15+ and to CockroachDB.

-- What the database knows of itself. One row.
CREATE TABLE db_metadata (
    -- There is one row, and this is how the second is kept out.
    singleton BOOL PRIMARY KEY DEFAULT TRUE,
    version INT8 NOT NULL,
    -- Set while a migration is under way, so that a half-done one is seen.
    target_version INT8,
    -- The process that migrates, and until when nobody else may.
    migrator_id UUID,
    migrator_lease_expires TIMESTAMPTZ,
    rack_id UUID NOT NULL DEFAULT gen_random_uuid(),
    time_created TIMESTAMPTZ NOT NULL DEFAULT now(),
    time_modified TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT db_metadata_one_row CHECK (singleton)
);

CREATE TYPE sled_policy AS ENUM ('in_service', 'expunged');

CREATE TYPE sled_provision_policy AS ENUM ('provisionable', 'non_provisionable');

CREATE TYPE instance_state AS ENUM (
    'creating', 'no_vmm', 'vmm', 'failed', 'destroyed'
);

CREATE TYPE vmm_state AS ENUM (
    'creating', 'starting', 'running', 'stopping', 'stopped', 'rebooting',
    'migrating', 'failed', 'destroyed', 'abandoned'
);

CREATE TYPE vmm_end_reason AS ENUM (
    'guest_shutdown', 'requested', 'boot_failed', 'panic', 'hypervisor_died',
    'fenced', 'unwound', 'gone'
);

CREATE TYPE reservation_role AS ENUM ('active', 'target', 'abandoned');

CREATE TYPE auto_restart_policy AS ENUM ('never', 'best_effort');

CREATE TYPE start_reason AS ENUM ('user', 'create', 'auto_restart');

CREATE TYPE start_outcome AS ENUM (
    'pending', 'started', 'failed', 'superseded'
);

CREATE TYPE start_failure_kind AS ENUM (
    'insufficient_capacity', 'anti_affinity', 'affinity', 'affinity_conflict',
    'cpu_platform', 'local_storage', 'quota_exceeded', 'no_sled_in_service',
    'image_or_disk_unavailable', 'host_rejected', 'host_unreachable',
    'boot_failed', 'timed_out', 'internal'
);

CREATE TYPE saga_state AS ENUM ('running', 'unwinding', 'done', 'abandoned');

CREATE TYPE intended_state AS ENUM (
    'running', 'stopped', 'guest_shutdown', 'destroyed'
);

CREATE TYPE affinity_group_kind AS ENUM ('affinity', 'anti_affinity');

CREATE TYPE affinity_policy AS ENUM ('allow', 'fail');

CREATE TYPE instance_cpu_platform AS ENUM (
    'amd_milan', 'amd_turin', 'amd_turin_v2'
);

CREATE TYPE sled_cpu AS ENUM ('unknown', 'amd_milan', 'amd_turin');

CREATE TYPE disk_backend AS ENUM ('local', 'distributed');

CREATE TYPE disk_state AS ENUM (
    'creating', 'ready', 'import_ready', 'importing_from_bulk_writes',
    'finalizing', 'faulted'
);

CREATE TYPE role_resource AS ENUM ('fleet', 'silo', 'project');

CREATE TYPE role_name AS ENUM (
    'admin', 'collaborator', 'limited_collaborator', 'viewer'
);

CREATE TYPE auth_method AS ENUM ('session_cookie', 'access_token');

CREATE TYPE blocks_place AS ENUM ('store', 'local');

CREATE TABLE silo (
    id UUID PRIMARY KEY,
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    -- Is it named to those who have not logged in?
    discoverable BOOL NOT NULL DEFAULT TRUE,
    -- {"role in the silo": ["role in the fleet", …]}: who has the first has the
    -- others, too.
    mapped_fleet_roles JSONB NOT NULL DEFAULT '{}',
    -- For how long at most a token of a device login is good. Null: for ever.
    device_token_max_ttl_secs INT8,
    CONSTRAINT silo_ttl_is_positive CHECK (device_token_max_ttl_secs > 0)
);

-- A silo's name is its own while it lives.
CREATE UNIQUE INDEX silo_live_name ON silo (name) WHERE time_deleted IS NULL;

-- What a silo may have at once, and what it has. The use is the sum of its
-- reservations' sizes, and of those of its distributed disks, its allocated
-- local ones, its snapshots and its images, kept by the same transactions. It
-- may exceed a limit that was lowered since.
CREATE TABLE silo_quota (
    silo_id UUID PRIMARY KEY REFERENCES silo (id),
    vcpus INT8 NOT NULL,
    memory_bytes INT8 NOT NULL,
    storage_bytes INT8 NOT NULL,
    used_vcpus INT8 NOT NULL,
    used_memory_bytes INT8 NOT NULL,
    used_storage_bytes INT8 NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    CONSTRAINT silo_quota_not_negative CHECK (
        vcpus >= 0 AND memory_bytes >= 0 AND storage_bytes >= 0),
    CONSTRAINT silo_quota_use_not_negative CHECK (
        used_vcpus >= 0 AND used_memory_bytes >= 0
        AND used_storage_bytes >= 0)
);

CREATE TABLE silo_user (
    id UUID PRIMARY KEY,
    silo_id UUID NOT NULL REFERENCES silo (id),
    external_id VARCHAR(256) NOT NULL,
    -- Nothing reads it: it said what role_assignment says now.
    fleet_admin BOOL NOT NULL DEFAULT FALSE,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);

-- One live user of a name in a silo.
CREATE UNIQUE INDEX silo_user_live_external_id
    ON silo_user (silo_id, external_id) WHERE time_deleted IS NULL;

-- A bearer token, as the hex SHA-256 of it: the token itself is shown once and
-- kept nowhere.
CREATE TABLE api_token (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    token_hash VARCHAR(64) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_expires TIMESTAMPTZ,
    -- A token in clear text cannot be stored by mistake.
    CONSTRAINT api_token_is_hashed CHECK (length(token_hash) = 64)
);

CREATE UNIQUE INDEX api_token_hash ON api_token (token_hash);

CREATE INDEX api_token_by_user ON api_token (silo_user_id, id);

-- For those that go when their time is over.
CREATE INDEX api_token_by_time_expires ON api_token (time_expires);

-- Who may what: a user's role in the fleet (of the nil id), in its silo, or in a
-- project of its silo.
CREATE TABLE role_assignment (
    resource role_resource NOT NULL,
    resource_id UUID NOT NULL,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    role_name role_name NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (resource, resource_id, silo_user_id, role_name),
    CONSTRAINT role_assignment_fleet_has_the_role CHECK (
        resource <> 'fleet' OR role_name <> 'limited_collaborator'),
    CONSTRAINT role_assignment_one_fleet CHECK (
        (resource = 'fleet')
        = (resource_id = '00000000-0000-0000-0000-000000000000'))
);

CREATE INDEX role_assignment_by_user
    ON role_assignment (silo_user_id);

-- The password of a user, as a PHC string. A user without one cannot log in by
-- one.
CREATE TABLE silo_user_password (
    silo_user_id UUID PRIMARY KEY REFERENCES silo_user (id),
    hash VARCHAR(256) NOT NULL,
    time_set TIMESTAMPTZ NOT NULL,
    -- Of version 9, which counted wrong ones here; `login_guess` has them now. To
    -- be dropped.
    failures INT8 NOT NULL DEFAULT 0,
    time_last_failure TIMESTAMPTZ,
    CONSTRAINT silo_user_password_is_hashed CHECK (hash LIKE '$argon2id$%'),
    CONSTRAINT silo_user_password_failures_have_a_time CHECK (
        failures >= 0 AND (failures = 0) = (time_last_failure IS NULL))
);

-- How often a password was guessed wrong for a name, be there such a user or not:
-- who guesses is told nothing by how it is slowed down. Forgotten after an hour
-- without a guess.
CREATE TABLE login_guess (
    -- SHA-256, in hex, of silo and name, since what is typed as a name may be a
    -- password.
    name_hash VARCHAR(64) PRIMARY KEY,
    -- Wrong ones since the last right one, which slow the next down.
    failures INT8 NOT NULL,
    time_last TIMESTAMPTZ NOT NULL,
    CONSTRAINT login_guess_is_hashed CHECK (length(name_hash) = 64),
    CONSTRAINT login_guess_failures_not_negative CHECK (failures >= 0)
);

-- For those that go when their time is over.
CREATE INDEX login_guess_by_time_last
    ON login_guess (time_last);

-- A user who is logged in to the console, by a cookie. Only the hex SHA-256 of it
-- is kept.
CREATE TABLE console_session (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    token_hash VARCHAR(64) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_last_used TIMESTAMPTZ NOT NULL,
    CONSTRAINT console_session_is_hashed CHECK (length(token_hash) = 64)
);

CREATE UNIQUE INDEX console_session_hash
    ON console_session (token_hash);

CREATE INDEX console_session_by_user
    ON console_session (silo_user_id, id);

-- For those that go when their time is over.
CREATE INDEX console_session_by_time_created
    ON console_session (time_created);

-- A device that wants to log in (RFC 8628). Once a user has confirmed it, the
-- next poll makes the token.
CREATE TABLE device_auth_request (
    id UUID PRIMARY KEY,
    client_id UUID NOT NULL,
    device_code_hash VARCHAR(64) NOT NULL,
    -- What the user types.
    user_code VARCHAR(16) NOT NULL,
    -- For how long the token is wanted. Null: for as long as the silo allows.
    ttl_secs INT8,
    time_created TIMESTAMPTZ NOT NULL,
    time_expires TIMESTAMPTZ NOT NULL,
    time_last_polled TIMESTAMPTZ,
    -- Who confirmed it.
    silo_user_id UUID REFERENCES silo_user (id),
    time_confirmed TIMESTAMPTZ,
    -- When the token ends at the latest: it was confirmed by one that ends then.
    token_expires_by TIMESTAMPTZ,
    time_denied TIMESTAMPTZ,
    -- When the token was made.
    time_used TIMESTAMPTZ,
    CONSTRAINT device_auth_request_is_hashed
        CHECK (length(device_code_hash) = 64),
    CONSTRAINT device_auth_request_ttl_is_positive CHECK (ttl_secs > 0),
    CONSTRAINT device_auth_request_confirmed_whole
        CHECK ((silo_user_id IS NULL) = (time_confirmed IS NULL)),
    CONSTRAINT device_auth_request_denied_or_confirmed
        CHECK (time_denied IS NULL OR time_confirmed IS NULL),
    CONSTRAINT device_auth_request_used_by_who_confirmed
        CHECK (time_used IS NULL OR time_confirmed IS NOT NULL)
);

CREATE UNIQUE INDEX device_auth_request_device_code
    ON device_auth_request (device_code_hash);

CREATE UNIQUE INDEX device_auth_request_user_code
    ON device_auth_request (user_code);

-- For those that go when their time is over.
CREATE INDEX device_auth_request_by_time_expires
    ON device_auth_request (time_expires);

-- What was asked that changes something: written before it is done, completed
-- before it is answered. Without references: it outlives what it is about.
CREATE TABLE audit_log (
    id UUID PRIMARY KEY,
    time_started TIMESTAMPTZ NOT NULL,
    time_completed TIMESTAMPTZ,
    request_id VARCHAR(63) NOT NULL,
    operation_id VARCHAR(255) NOT NULL,
    request_uri VARCHAR(1024) NOT NULL,
    source_ip VARCHAR(45) NOT NULL,
    user_agent VARCHAR(255),
    -- Null: nobody known.
    silo_id UUID,
    silo_user_id UUID,
    auth_method auth_method,
    credential_id UUID,
    -- What it made or changed, where the URI does not say it.
    resource_id UUID,
    -- Null though completed: not known, its process died.
    http_status INT8,
    error_code VARCHAR(63),
    error_message VARCHAR(1024),
    CONSTRAINT audit_log_actor_whole CHECK (
        (silo_id IS NULL) = (silo_user_id IS NULL)
        AND (silo_id IS NULL) = (auth_method IS NULL)
        AND (silo_id IS NULL) = (credential_id IS NULL)),
    CONSTRAINT audit_log_result_after_completion CHECK (
        time_completed IS NOT NULL OR http_status IS NULL),
    CONSTRAINT audit_log_error_has_a_status CHECK (
        http_status IS NOT NULL
        OR (error_code IS NULL AND error_message IS NULL))
);

-- The log is read, and forgotten, in this order.
CREATE INDEX audit_log_by_time_completed
    ON audit_log (time_completed, id);

-- Of requests that are being answered, or never were: their process died.
CREATE INDEX audit_log_incomplete
    ON audit_log (time_started) WHERE time_completed IS NULL;

-- Lets one sled join the fleet, as the one that it names, once: by one key,
-- which may come again with it. Only the hex SHA-256 of the two is kept.
CREATE TABLE sled_join_token (
    id UUID PRIMARY KEY,
    token_hash VARCHAR(64) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_expires TIMESTAMPTZ NOT NULL,
    sled_id UUID NOT NULL,
    key_hash VARCHAR(64),
    time_used TIMESTAMPTZ,
    CONSTRAINT sled_join_token_is_hashed CHECK (length(token_hash) = 64),
    CONSTRAINT sled_join_token_used_whole
        CHECK ((key_hash IS NULL) = (time_used IS NULL))
);

CREATE UNIQUE INDEX sled_join_token_hash
    ON sled_join_token (token_hash);

-- For those that go when their time is over.
CREATE INDEX sled_join_token_by_time_expires
    ON sled_join_token (time_expires);

CREATE TABLE project (
    id UUID PRIMARY KEY,
    silo_id UUID NOT NULL REFERENCES silo (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);

-- A project's name is its own in its silo while it lives.
CREATE UNIQUE INDEX project_live_name
    ON project (silo_id, name) WHERE time_deleted IS NULL;

CREATE INDEX project_live_id
    ON project (silo_id, id) WHERE time_deleted IS NULL;

CREATE TABLE sled (
    id UUID PRIMARY KEY,
    -- ip:port of its agent.
    address VARCHAR(64) NOT NULL,
    serial VARCHAR(63) NOT NULL,
    part VARCHAR(63) NOT NULL,
    revision INT8 NOT NULL,
    policy sled_policy NOT NULL,
    provision_policy sled_provision_policy NOT NULL,
    -- The agent's process; a new one at each start of it.
    incarnation UUID NOT NULL,
    vcpus INT8 NOT NULL,
    memory_bytes INT8 NOT NULL,
    storage_bytes INT8 NOT NULL,
    -- The sums of this sled's reservations, kept by the same transactions.
    reserved_vcpus INT8 NOT NULL DEFAULT 0,
    reserved_memory_bytes INT8 NOT NULL DEFAULT 0,
    time_last_heartbeat TIMESTAMPTZ NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    -- As its agent says.
    cpu sled_cpu NOT NULL DEFAULT 'unknown',
    -- The sum of the local disks that are allocated here, and of the blocks of
    -- those that were, and are not known to be gone.
    reserved_storage_bytes INT8 NOT NULL DEFAULT 0,
    -- It stops its guests by itself when it has not been heard for so long; null:
    -- it never does.
    fences_after_ms INT8,
    -- No sled is ever overcommitted, whoever races whom.
    CONSTRAINT sled_vcpus_not_overcommitted
        CHECK (reserved_vcpus >= 0 AND reserved_vcpus <= vcpus),
    CONSTRAINT sled_memory_not_overcommitted
        CHECK (reserved_memory_bytes >= 0
            AND reserved_memory_bytes <= memory_bytes),
    CONSTRAINT sled_storage_not_overcommitted
        CHECK (reserved_storage_bytes >= 0
            AND reserved_storage_bytes <= storage_bytes)
);

-- Where a placement looks first: the sleds that take instances, by their room.
CREATE INDEX sled_open_by_room
    ON sled ((vcpus - reserved_vcpus), (memory_bytes - reserved_memory_bytes))
    WHERE policy = 'in_service' AND provision_policy = 'provisionable';

CREATE TABLE instance (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,

    hostname VARCHAR(253) NOT NULL,
    ncpus INT8 NOT NULL,
    memory_bytes INT8 NOT NULL,
    -- base64, as it came.
    user_data VARCHAR(65536) NOT NULL,
    network_interfaces JSONB NOT NULL,
    auto_restart_policy auto_restart_policy,
    auto_restart_cooldown_secs INT8,
    time_last_auto_restarted TIMESTAMPTZ,

    state instance_state NOT NULL,
    -- Guards every write of `state` and of the links below.
    state_gen INT8 NOT NULL,
    time_state_updated TIMESTAMPTZ NOT NULL,
    active_vmm_id UUID,
    target_vmm_id UUID,
    pending_start_attempt_id UUID,
    -- The newest attempt, ended or not.
    latest_start_attempt_id UUID,

    -- A VMM that had run and then ended badly; cleared when it runs again.
    last_failure_kind vmm_end_reason,
    last_failure_message VARCHAR(1024),
    time_last_failure TIMESTAMPTZ,

    -- Failed starts in a row since it last ran or was asked for by a user.
    failed_starts INT8 NOT NULL,
    -- When the system will try again to start it, if it means to.
    next_retry_at TIMESTAMPTZ,

    -- Null: settled. Else the time at which somebody must look.
    reconcile_at TIMESTAMPTZ,
    -- Looks in a row that ended in an error, and the last one's chain.
    reconcile_errors INT8 NOT NULL,
    reconcile_last_error VARCHAR(4096),

    -- Rises with every change of what the API shows.
    view_gen INT8 NOT NULL,

    intended_state intended_state NOT NULL,
    -- What its host's CPU must have; null: any will do.
    cpu_platform instance_cpu_platform,
    -- Which of its disks it boots from first; null: as the others are.
    boot_disk_id UUID,

    CONSTRAINT instance_has_a_size CHECK (ncpus > 0 AND memory_bytes > 0),
    -- 'vmm' means: a VMM is linked.
    CONSTRAINT instance_vmm_iff_linked
        CHECK ((state = 'vmm') = (active_vmm_id IS NOT NULL)),
    -- A migration has a source.
    CONSTRAINT instance_target_needs_active
        CHECK (target_vmm_id IS NULL OR active_vmm_id IS NOT NULL),
    CONSTRAINT instance_last_failure_whole CHECK (
        (last_failure_kind IS NULL) = (last_failure_message IS NULL)
        AND (last_failure_kind IS NULL) = (time_last_failure IS NULL)),
    -- What is destroyed is deleted.
    CONSTRAINT instance_destroyed_is_deleted
        CHECK (state <> 'destroyed' OR time_deleted IS NOT NULL),
    -- Wanted and at rest, with nobody starting it, cannot be written
    -- (oxidecomputer/omicron#9177).
    CONSTRAINT instance_wanted_is_pending CHECK (
        NOT (intended_state = 'running' AND state = 'no_vmm'
            AND pending_start_attempt_id IS NULL)),
    -- An attempt is pending only while it is wanted.
    CONSTRAINT instance_pending_is_wanted CHECK (
        pending_start_attempt_id IS NULL OR intended_state = 'running'),
    -- 'failed' means: should run, does not, and nobody is starting it.
    CONSTRAINT instance_failed_is_wanted CHECK (
        state <> 'failed' OR (intended_state = 'running'
            AND pending_start_attempt_id IS NULL)),
    -- Deleting is wanting it destroyed.
    CONSTRAINT instance_deleted_iff_unwanted CHECK (
        (intended_state = 'destroyed') = (time_deleted IS NOT NULL))
);

-- An instance's name is its own in its project until it is deleted.
CREATE UNIQUE INDEX instance_live_name
    ON instance (project_id, name) WHERE time_deleted IS NULL;

CREATE INDEX instance_live_id
    ON instance (project_id, id) WHERE time_deleted IS NULL;

-- What somebody must look at. Partial, so small.
CREATE INDEX instance_unsettled
    ON instance (reconcile_at) WHERE reconcile_at IS NOT NULL;

-- What should run and does not, in order of waiting.
CREATE INDEX instance_failed
    ON instance (time_state_updated, id) WHERE state = 'failed';

CREATE TABLE vmm (
    id UUID PRIMARY KEY,
    instance_id UUID NOT NULL REFERENCES instance (id),
    sled_id UUID NOT NULL REFERENCES sled (id),
    start_attempt_id UUID NOT NULL,
    state vmm_state NOT NULL,
    -- The sled's, once it knows the VMM.
    generation INT8 NOT NULL,
    -- What went wrong, in a sentence that a user may read.
    failure_reason VARCHAR(1024),
    -- Stored before the first order to run goes out.
    may_run BOOL NOT NULL,
    ever_ran BOOL NOT NULL,
    end_reason vmm_end_reason,
    -- When it must have run, from the moment the sled took the order.
    boot_deadline TIMESTAMPTZ,
    -- Questions to the sled about this VMM, in a row, without an answer.
    unanswered INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_state_updated TIMESTAMPTZ NOT NULL,
    time_ended TIMESTAMPTZ,
    CONSTRAINT vmm_failure_iff_failed
        CHECK ((state = 'failed') = (failure_reason IS NOT NULL)),
    -- An end has a reason and a time, and nothing else has.
    CONSTRAINT vmm_end_reason_iff_ended CHECK (
        (state = 'failed' OR state = 'destroyed') = (end_reason IS NOT NULL)),
    CONSTRAINT vmm_end_time_iff_ended CHECK (
        (end_reason IS NOT NULL) = (time_ended IS NOT NULL)),
    -- Nothing runs that was never told to.
    CONSTRAINT vmm_ran_was_allowed CHECK (may_run OR NOT ever_ran)
);

CREATE INDEX vmm_live_by_instance
    ON vmm (instance_id) WHERE time_ended IS NULL;

CREATE INDEX vmm_live_by_sled
    ON vmm (sled_id, id) WHERE time_ended IS NULL;

-- What a VMM holds of a sled. The row is there while it holds it.
CREATE TABLE sled_reservation (
    vmm_id UUID PRIMARY KEY REFERENCES vmm (id),
    instance_id UUID NOT NULL REFERENCES instance (id),
    sled_id UUID NOT NULL REFERENCES sled (id),
    role reservation_role NOT NULL,
    vcpus INT8 NOT NULL,
    memory_bytes INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    -- Whose quota is charged with it.
    silo_id UUID REFERENCES silo (id),
    CONSTRAINT sled_reservation_has_a_size
        CHECK (vcpus > 0 AND memory_bytes > 0)
);

-- At most one live reservation for each part an instance's VMM can play; those
-- that were abandoned are outside.
CREATE UNIQUE INDEX sled_reservation_one_per_role
    ON sled_reservation (instance_id, role) WHERE role <> 'abandoned';

CREATE INDEX sled_reservation_by_sled ON sled_reservation (sled_id);

-- Instances that are to run on one sled (affinity), or on different ones
-- (anti-affinity): always (fail), or if it can be (allow).
CREATE TABLE affinity_group (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    kind affinity_group_kind NOT NULL,
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    policy affinity_policy NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);

-- A group's name is its own, among its kind, in its project while it lives.
CREATE UNIQUE INDEX affinity_group_live_name
    ON affinity_group (project_id, kind, name) WHERE time_deleted IS NULL;

CREATE INDEX affinity_group_live_id
    ON affinity_group (project_id, kind, id) WHERE time_deleted IS NULL;

-- Gone with the group, and with the instance.
CREATE TABLE affinity_group_member (
    group_id UUID NOT NULL REFERENCES affinity_group (id),
    instance_id UUID NOT NULL REFERENCES instance (id),
    PRIMARY KEY (group_id, instance_id)
);

CREATE INDEX affinity_group_member_by_instance
    ON affinity_group_member (instance_id, group_id);

-- A member's VMM is on a sled, in the eyes of its group: made with the VMM's
-- reservation, and gone with it, or with the membership.
CREATE TABLE affinity_claim (
    group_id UUID NOT NULL REFERENCES affinity_group (id),
    vmm_id UUID NOT NULL REFERENCES sled_reservation (vmm_id),
    instance_id UUID NOT NULL,
    sled_id UUID NOT NULL,
    -- The group is of anti-affinity, and means it.
    exclusive BOOL NOT NULL,
    PRIMARY KEY (group_id, vmm_id)
);

-- Of two that must not meet, the second stays out, whoever races whom.
CREATE UNIQUE INDEX affinity_claim_exclusive
    ON affinity_claim (group_id, sled_id) WHERE exclusive;

CREATE INDEX affinity_claim_by_vmm ON affinity_claim (vmm_id);

-- A local disk: blocks of one sled's own storage.
CREATE TABLE disk (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    -- What it is attached to.
    instance_id UUID REFERENCES instance (id),
    -- Where its blocks are: null until an instance that it is attached to is
    -- placed for the first time, and from then on where that instance must run.
    sled_id UUID REFERENCES sled (id),
    -- The VMM with which it was allocated. If that never runs, the blocks are
    -- given back with it.
    allocated_by UUID,
    -- Where its blocks are: on a sled, or in the store, which all sleds see.
    backend disk_backend NOT NULL DEFAULT 'local',
    -- How far its blocks are. A local one's are made with a VMM.
    state disk_state NOT NULL DEFAULT 'ready',
    block_size INT8 NOT NULL DEFAULT 4096,
    read_only BOOL NOT NULL DEFAULT FALSE,
    -- What a local one's blocks are called on its sled, anew each time that it
    -- is allocated. A distributed one's bear its own id.
    blocks_id UUID,
    -- What it began with. That may be deleted since.
    snapshot_id UUID,
    image_id UUID,
    -- The saga that finishes its import, or did.
    finalized_by UUID,
    CONSTRAINT disk_block_size CHECK (block_size IN (512, 2048, 4096)),
    CONSTRAINT disk_distributed_is_nowhere CHECK (
        backend = 'local' OR (sled_id IS NULL AND blocks_id IS NULL)),
    CONSTRAINT disk_local_is_blank CHECK (
        backend = 'distributed' OR (state = 'ready' AND NOT read_only
            AND snapshot_id IS NULL AND image_id IS NULL)),
    -- What is being written from outside is no guest's.
    CONSTRAINT disk_importing_is_detached CHECK (
        instance_id IS NULL
        OR state IN ('creating', 'ready', 'faulted')),
    CONSTRAINT disk_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT disk_deleted_holds_nothing CHECK (
        time_deleted IS NULL OR (instance_id IS NULL AND sled_id IS NULL)),
    CONSTRAINT disk_allocated_whole
        CHECK ((sled_id IS NULL) = (allocated_by IS NULL))
);

-- A disk's name is its own in its project until it is deleted.
CREATE UNIQUE INDEX disk_live_name
    ON disk (project_id, name) WHERE time_deleted IS NULL;

CREATE INDEX disk_live_id
    ON disk (project_id, id) WHERE time_deleted IS NULL;

CREATE INDEX disk_by_instance
    ON disk (instance_id, id) WHERE instance_id IS NOT NULL;

CREATE INDEX disk_by_sled
    ON disk (sled_id) WHERE sled_id IS NOT NULL;

CREATE INDEX disk_by_allocation
    ON disk (allocated_by) WHERE allocated_by IS NOT NULL;

-- What a disk held at some time. Its blocks bear its id, in the store.
CREATE TABLE snapshot (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    block_size INT8 NOT NULL,
    -- What it is of. That may be deleted since.
    disk_id UUID NOT NULL REFERENCES disk (id),
    -- Are its blocks there?
    made BOOL NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    CONSTRAINT snapshot_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT snapshot_block_size
        CHECK (block_size IN (512, 2048, 4096))
);

-- A snapshot's name is its own in its project until it is deleted.
CREATE UNIQUE INDEX snapshot_live_name
    ON snapshot (project_id, name) WHERE time_deleted IS NULL;

CREATE INDEX snapshot_live_id
    ON snapshot (project_id, id) WHERE time_deleted IS NULL;

-- What is being copied, and must not be written to meanwhile.
CREATE INDEX snapshot_being_made
    ON snapshot (disk_id) WHERE NOT made AND time_deleted IS NULL;

-- What disks may begin with. Its blocks bear its id, in the store.
CREATE TABLE image (
    id UUID PRIMARY KEY,
    silo_id UUID NOT NULL REFERENCES silo (id),
    -- Null: it is the silo's, and all its projects see it.
    project_id UUID REFERENCES project (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    os VARCHAR(512) NOT NULL,
    version VARCHAR(512) NOT NULL,
    size_bytes INT8 NOT NULL,
    block_size INT8 NOT NULL,
    -- Are its blocks there? Nobody sees it before.
    made BOOL NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ,
    CONSTRAINT image_has_a_size CHECK (size_bytes > 0),
    CONSTRAINT image_block_size
        CHECK (block_size IN (512, 2048, 4096))
);

-- An image's name is its own in its project until it is deleted, or in its silo.
CREATE UNIQUE INDEX image_live_name_in_project
    ON image (project_id, name)
    WHERE time_deleted IS NULL AND project_id IS NOT NULL;

CREATE UNIQUE INDEX image_live_name_in_silo
    ON image (silo_id, name)
    WHERE time_deleted IS NULL AND project_id IS NULL;

CREATE INDEX image_live_id_in_project
    ON image (project_id, id)
    WHERE time_deleted IS NULL AND project_id IS NOT NULL;

CREATE INDEX image_live_id_in_silo
    ON image (silo_id, id)
    WHERE time_deleted IS NULL AND project_id IS NULL;

-- Blocks that sleds must be rid of. A row is here until a sled has said that
-- they are gone, whatever dies meanwhile.
CREATE TABLE blocks_gone (
    id UUID PRIMARY KEY,
    place blocks_place NOT NULL,
    -- Whose storage they are on; null: in the store.
    sled_id UUID REFERENCES sled (id),
    -- What a sled keeps reserved for them.
    size_bytes INT8 NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    tries INT8 NOT NULL,
    next_try_at TIMESTAMPTZ NOT NULL,
    last_error VARCHAR(4096),
    CONSTRAINT blocks_gone_local_iff_somewhere
        CHECK ((place = 'local') = (sled_id IS NOT NULL))
);

-- Whose turn it is. Small: what is done is not here.
CREATE INDEX blocks_gone_by_time ON blocks_gone (next_try_at);

CREATE INDEX blocks_gone_by_sled
    ON blocks_gone (sled_id) WHERE sled_id IS NOT NULL;

-- A user's public key, for the guests that it is given to.
CREATE TABLE ssh_key (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    name VARCHAR(63) NOT NULL,
    description VARCHAR(512) NOT NULL,
    -- A line of `authorized_keys`.
    public_key VARCHAR(8192) NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_modified TIMESTAMPTZ NOT NULL,
    time_deleted TIMESTAMPTZ
);

-- A key's name is its user's own until it is deleted.
CREATE UNIQUE INDEX ssh_key_live_name
    ON ssh_key (silo_user_id, name) WHERE time_deleted IS NULL;

CREATE INDEX ssh_key_live_id
    ON ssh_key (silo_user_id, id) WHERE time_deleted IS NULL;

-- Who may log in to a guest from its first boot on: chosen when the instance is
-- made.
CREATE TABLE instance_ssh_key (
    instance_id UUID NOT NULL REFERENCES instance (id),
    ssh_key_id UUID NOT NULL REFERENCES ssh_key (id),
    PRIMARY KEY (instance_id, ssh_key_id)
);

-- One attempt to start an instance: the record that a user reads.
CREATE TABLE start_attempt (
    id UUID PRIMARY KEY,
    instance_id UUID NOT NULL REFERENCES instance (id),
    reason start_reason NOT NULL,
    -- Null when the system itself asked.
    requested_by UUID,
    saga_id UUID,
    vmm_id UUID,
    time_started TIMESTAMPTZ NOT NULL,
    time_ended TIMESTAMPTZ,
    outcome start_outcome NOT NULL,
    failure_kind start_failure_kind,
    failure_message VARCHAR(1024),
    failure_transient BOOL,
    failure_details JSONB,
    -- What the saga's failing node leaves for its first node's undo to close
    -- the attempt with.
    staged_failure JSONB,
    -- The whole chain of the error, for operators only.
    internal_error VARCHAR(4096),
    -- How often the reconciler found that it must wait.
    held_back INT8 NOT NULL,
    -- A failure has a kind, a sentence and a prospect; nothing else has.
    CONSTRAINT start_attempt_kind_iff_failed
        CHECK ((outcome = 'failed') = (failure_kind IS NOT NULL)),
    CONSTRAINT start_attempt_failure_whole CHECK (
        (failure_kind IS NULL) = (failure_message IS NULL)
        AND (failure_kind IS NULL) = (failure_transient IS NULL)
        AND (failure_kind IS NULL) = (failure_details IS NULL)),
    -- An attempt is pending until it ends, once.
    CONSTRAINT start_attempt_ended_iff_not_pending
        CHECK ((outcome = 'pending') = (time_ended IS NULL))
);

-- One attempt at a time.
CREATE UNIQUE INDEX start_attempt_one_pending
    ON start_attempt (instance_id) WHERE outcome = 'pending';

CREATE INDEX start_attempt_by_instance
    ON start_attempt (instance_id, time_started DESC, id DESC);

CREATE TABLE saga (
    id UUID PRIMARY KEY,
    name VARCHAR(128) NOT NULL,
    -- What it works on.
    instance_id UUID NOT NULL,
    state saga_state NOT NULL,
    dag JSONB NOT NULL,
    creator_sec UUID NOT NULL,
    -- Who runs it. With `adopt_generation`: the fence of all its writes.
    current_sec UUID NOT NULL,
    adopt_generation INT8 NOT NULL,
    time_adopted TIMESTAMPTZ NOT NULL,
    time_created TIMESTAMPTZ NOT NULL,
    time_ended TIMESTAMPTZ,
    CONSTRAINT saga_ended_iff_over CHECK (
        (state = 'done' OR state = 'abandoned') = (time_ended IS NOT NULL))
);

-- One saga at a time works on an instance.
CREATE UNIQUE INDEX saga_one_unfinished
    ON saga (instance_id) WHERE time_ended IS NULL;

CREATE INDEX saga_unfinished_by_sec
    ON saga (current_sec, id) WHERE time_ended IS NULL;

CREATE TABLE saga_node_event (
    saga_id UUID NOT NULL REFERENCES saga (id),
    node_id INT8 NOT NULL,
    event_type VARCHAR(32) NOT NULL,
    data JSONB,
    creator UUID NOT NULL,
    event_time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (saga_id, node_id, event_type)
);

-- The processes that run sagas: each lives while its lease does, by the
-- database's time.
CREATE TABLE nexus_lease (
    id UUID PRIMARY KEY,
    internal_address VARCHAR(64) NOT NULL,
    time_started TIMESTAMPTZ NOT NULL,
    lease_expires TIMESTAMPTZ NOT NULL,
    -- Since when it has renewed without a gap. Only who has for a whole lease
    -- may take another's, so that an outage of the database starts no round of
    -- takeovers.
    steady_since TIMESTAMPTZ NOT NULL,
    -- Who has found it dead; itself, if it was closed in order. From here on
    -- its sagas are anybody's, and it never renews again.
    taken_by UUID,
    time_taken TIMESTAMPTZ,
    CONSTRAINT nexus_lease_taken_whole
        CHECK ((taken_by IS NULL) = (time_taken IS NULL))
);

-- A request that its user gave a key, so that a repeat of it does nothing: the
-- row is written with what the request did, and forgotten after 24 hours.
CREATE TABLE idempotency_key (
    id UUID PRIMARY KEY,
    silo_user_id UUID NOT NULL REFERENCES silo_user (id),
    -- SHA-256, in hex, of the key, and of all that the request says.
    key_hash VARCHAR(64) NOT NULL,
    request_hash VARCHAR(64) NOT NULL,
    -- What it made or started.
    instance_id UUID NOT NULL,
    -- What it was answered. Null: whoever was to answer it has not come to that
    -- yet, or never will; a repeat does.
    answer JSONB,
    time_created TIMESTAMPTZ NOT NULL
);

-- A key is used once by its user.
CREATE UNIQUE INDEX idempotency_key_of_user
    ON idempotency_key (silo_user_id, key_hash);

INSERT INTO db_metadata (version) VALUES (10);
