//! The tables, as diesel sees them. The truth is `schema/dbinit.sql`.

#![expect(missing_docs, reason = "dbinit.sql says what each column means")]

/// The version of the schema that this code speaks.
pub const SCHEMA_VERSION: i64 = 10;

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    db_metadata (singleton) {
        singleton -> Bool,
        version -> Int8,
        target_version -> Nullable<Int8>,
        migrator_id -> Nullable<Uuid>,
        migrator_lease_expires -> Nullable<Timestamptz>,
        rack_id -> Uuid,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    silo (id) {
        id -> Uuid,
        name -> Text,
        description -> Text,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
        discoverable -> Bool,
        mapped_fleet_roles -> Jsonb,
        device_token_max_ttl_secs -> Nullable<Int8>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    silo_quota (silo_id) {
        silo_id -> Uuid,
        vcpus -> Int8,
        memory_bytes -> Int8,
        storage_bytes -> Int8,
        used_vcpus -> Int8,
        used_memory_bytes -> Int8,
        used_storage_bytes -> Int8,
        time_modified -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    silo_user (id) {
        id -> Uuid,
        silo_id -> Uuid,
        external_id -> Text,
        fleet_admin -> Bool,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    api_token (id) {
        id -> Uuid,
        silo_user_id -> Uuid,
        token_hash -> Text,
        time_created -> Timestamptz,
        time_expires -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    project (id) {
        id -> Uuid,
        silo_id -> Uuid,
        name -> Text,
        description -> Text,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    sled (id) {
        id -> Uuid,
        address -> Text,
        serial -> Text,
        part -> Text,
        revision -> Int8,
        policy -> SledPolicySql,
        provision_policy -> SledProvisionPolicySql,
        incarnation -> Uuid,
        vcpus -> Int8,
        memory_bytes -> Int8,
        storage_bytes -> Int8,
        reserved_vcpus -> Int8,
        reserved_memory_bytes -> Int8,
        time_last_heartbeat -> Timestamptz,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        cpu -> SledCpuSql,
        reserved_storage_bytes -> Int8,
        fences_after_ms -> Nullable<Int8>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    instance (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
        hostname -> Text,
        ncpus -> Int8,
        memory_bytes -> Int8,
        user_data -> Text,
        network_interfaces -> Jsonb,
        auto_restart_policy -> Nullable<AutoRestartPolicySql>,
        auto_restart_cooldown_secs -> Nullable<Int8>,
        time_last_auto_restarted -> Nullable<Timestamptz>,
        state -> InstanceStateSql,
        state_gen -> Int8,
        time_state_updated -> Timestamptz,
        active_vmm_id -> Nullable<Uuid>,
        target_vmm_id -> Nullable<Uuid>,
        pending_start_attempt_id -> Nullable<Uuid>,
        latest_start_attempt_id -> Nullable<Uuid>,
        last_failure_kind -> Nullable<VmmEndReasonSql>,
        last_failure_message -> Nullable<Text>,
        time_last_failure -> Nullable<Timestamptz>,
        failed_starts -> Int8,
        next_retry_at -> Nullable<Timestamptz>,
        reconcile_at -> Nullable<Timestamptz>,
        reconcile_errors -> Int8,
        reconcile_last_error -> Nullable<Text>,
        view_gen -> Int8,
        intended_state -> IntendedStateSql,
        cpu_platform -> Nullable<InstanceCpuPlatformSql>,
        boot_disk_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    vmm (id) {
        id -> Uuid,
        instance_id -> Uuid,
        sled_id -> Uuid,
        start_attempt_id -> Uuid,
        state -> VmmStateSql,
        generation -> Int8,
        failure_reason -> Nullable<Text>,
        may_run -> Bool,
        ever_ran -> Bool,
        end_reason -> Nullable<VmmEndReasonSql>,
        boot_deadline -> Nullable<Timestamptz>,
        unanswered -> Int8,
        time_created -> Timestamptz,
        time_state_updated -> Timestamptz,
        time_ended -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    sled_reservation (vmm_id) {
        vmm_id -> Uuid,
        instance_id -> Uuid,
        sled_id -> Uuid,
        role -> ReservationRoleSql,
        vcpus -> Int8,
        memory_bytes -> Int8,
        time_created -> Timestamptz,
        silo_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    affinity_group (id) {
        id -> Uuid,
        project_id -> Uuid,
        kind -> AffinityGroupKindSql,
        name -> Text,
        description -> Text,
        policy -> AffinityPolicySql,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    affinity_group_member (group_id, instance_id) {
        group_id -> Uuid,
        instance_id -> Uuid,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    affinity_claim (group_id, vmm_id) {
        group_id -> Uuid,
        vmm_id -> Uuid,
        instance_id -> Uuid,
        sled_id -> Uuid,
        exclusive -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    disk (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        size_bytes -> Int8,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
        instance_id -> Nullable<Uuid>,
        sled_id -> Nullable<Uuid>,
        allocated_by -> Nullable<Uuid>,
        backend -> DiskBackendSql,
        state -> DiskStateSql,
        block_size -> Int8,
        read_only -> Bool,
        blocks_id -> Nullable<Uuid>,
        snapshot_id -> Nullable<Uuid>,
        image_id -> Nullable<Uuid>,
        finalized_by -> Nullable<Uuid>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    start_attempt (id) {
        id -> Uuid,
        instance_id -> Uuid,
        reason -> StartReasonSql,
        requested_by -> Nullable<Uuid>,
        saga_id -> Nullable<Uuid>,
        vmm_id -> Nullable<Uuid>,
        time_started -> Timestamptz,
        time_ended -> Nullable<Timestamptz>,
        outcome -> StartOutcomeSql,
        failure_kind -> Nullable<StartFailureKindSql>,
        failure_message -> Nullable<Text>,
        failure_transient -> Nullable<Bool>,
        failure_details -> Nullable<Jsonb>,
        staged_failure -> Nullable<Jsonb>,
        internal_error -> Nullable<Text>,
        held_back -> Int8,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    saga (id) {
        id -> Uuid,
        name -> Text,
        instance_id -> Uuid,
        state -> SagaStateSql,
        dag -> Jsonb,
        creator_sec -> Uuid,
        current_sec -> Uuid,
        adopt_generation -> Int8,
        time_adopted -> Timestamptz,
        time_created -> Timestamptz,
        time_ended -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    saga_node_event (saga_id, node_id, event_type) {
        saga_id -> Uuid,
        node_id -> Int8,
        event_type -> Text,
        data -> Nullable<Jsonb>,
        creator -> Uuid,
        event_time -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    nexus_lease (id) {
        id -> Uuid,
        internal_address -> Text,
        time_started -> Timestamptz,
        lease_expires -> Timestamptz,
        steady_since -> Timestamptz,
        taken_by -> Nullable<Uuid>,
        time_taken -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    ssh_key (id) {
        id -> Uuid,
        silo_user_id -> Uuid,
        name -> Text,
        description -> Text,
        public_key -> Text,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    instance_ssh_key (instance_id, ssh_key_id) {
        instance_id -> Uuid,
        ssh_key_id -> Uuid,
    }
}

diesel::table! {
    snapshot (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        size_bytes -> Int8,
        block_size -> Int8,
        disk_id -> Uuid,
        made -> Bool,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    image (id) {
        id -> Uuid,
        silo_id -> Uuid,
        project_id -> Nullable<Uuid>,
        name -> Text,
        description -> Text,
        os -> Text,
        version -> Text,
        size_bytes -> Int8,
        block_size -> Int8,
        made -> Bool,
        time_created -> Timestamptz,
        time_modified -> Timestamptz,
        time_deleted -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    blocks_gone (id) {
        id -> Uuid,
        place -> BlocksPlaceSql,
        sled_id -> Nullable<Uuid>,
        size_bytes -> Int8,
        time_created -> Timestamptz,
        tries -> Int8,
        next_try_at -> Timestamptz,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    idempotency_key (id) {
        id -> Uuid,
        silo_user_id -> Uuid,
        key_hash -> Text,
        request_hash -> Text,
        instance_id -> Uuid,
        answer -> Nullable<Jsonb>,
        time_created -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    role_assignment (resource, resource_id, silo_user_id, role_name) {
        resource -> RoleResourceSql,
        resource_id -> Uuid,
        silo_user_id -> Uuid,
        role_name -> RoleNameSql,
        time_created -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    silo_user_password (silo_user_id) {
        silo_user_id -> Uuid,
        hash -> Text,
        time_set -> Timestamptz,
        failures -> Int8,
        time_last_failure -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    login_guess (name_hash) {
        name_hash -> Text,
        failures -> Int8,
        time_last -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    console_session (id) {
        id -> Uuid,
        silo_user_id -> Uuid,
        token_hash -> Text,
        time_created -> Timestamptz,
        time_last_used -> Timestamptz,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    device_auth_request (id) {
        id -> Uuid,
        client_id -> Uuid,
        device_code_hash -> Text,
        user_code -> Text,
        ttl_secs -> Nullable<Int8>,
        time_created -> Timestamptz,
        time_expires -> Timestamptz,
        time_last_polled -> Nullable<Timestamptz>,
        silo_user_id -> Nullable<Uuid>,
        time_confirmed -> Nullable<Timestamptz>,
        token_expires_by -> Nullable<Timestamptz>,
        time_denied -> Nullable<Timestamptz>,
        time_used -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    audit_log (id) {
        id -> Uuid,
        time_started -> Timestamptz,
        time_completed -> Nullable<Timestamptz>,
        request_id -> Text,
        operation_id -> Text,
        request_uri -> Text,
        source_ip -> Text,
        user_agent -> Nullable<Text>,
        silo_id -> Nullable<Uuid>,
        silo_user_id -> Nullable<Uuid>,
        auth_method -> Nullable<AuthMethodSql>,
        credential_id -> Nullable<Uuid>,
        resource_id -> Nullable<Uuid>,
        http_status -> Nullable<Int8>,
        error_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::sql_types::*;

    sled_join_token (id) {
        id -> Uuid,
        token_hash -> Text,
        time_created -> Timestamptz,
        time_expires -> Timestamptz,
        sled_id -> Uuid,
        key_hash -> Nullable<Text>,
        time_used -> Nullable<Timestamptz>,
    }
}

diesel::joinable!(project -> silo (silo_id));
diesel::joinable!(silo_quota -> silo (silo_id));
diesel::joinable!(silo_user -> silo (silo_id));
diesel::joinable!(api_token -> silo_user (silo_user_id));
diesel::joinable!(console_session -> silo_user (silo_user_id));
diesel::joinable!(silo_user_password -> silo_user (silo_user_id));
diesel::joinable!(role_assignment -> silo_user (silo_user_id));
diesel::joinable!(affinity_group_member -> affinity_group (group_id));
diesel::joinable!(instance_ssh_key -> ssh_key (ssh_key_id));
diesel::joinable!(instance -> project (project_id));
diesel::joinable!(vmm -> sled (sled_id));
diesel::joinable!(start_attempt -> instance (instance_id));

diesel::allow_tables_to_appear_in_same_query!(
    affinity_claim,
    affinity_group,
    affinity_group_member,
    api_token,
    audit_log,
    blocks_gone,
    console_session,
    device_auth_request,
    disk,
    image,
    instance,
    instance_ssh_key,
    login_guess,
    nexus_lease,
    project,
    role_assignment,
    saga,
    silo,
    silo_quota,
    silo_user,
    silo_user_password,
    sled,
    sled_join_token,
    sled_reservation,
    snapshot,
    ssh_key,
    start_attempt,
    vmm,
);
