//! Names of the SQL enums, for diesel. The Rust enums are with their nouns.

#![expect(missing_docs, reason = "each is the name of a type in dbinit.sql")]

use diesel::query_builder::QueryId;
use diesel::sql_types::SqlType;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "sled_policy"))]
pub struct SledPolicySql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "sled_provision_policy"))]
pub struct SledProvisionPolicySql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "instance_state"))]
pub struct InstanceStateSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "vmm_state"))]
pub struct VmmStateSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "vmm_end_reason"))]
pub struct VmmEndReasonSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "reservation_role"))]
pub struct ReservationRoleSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "auto_restart_policy"))]
pub struct AutoRestartPolicySql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "start_reason"))]
pub struct StartReasonSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "start_outcome"))]
pub struct StartOutcomeSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "start_failure_kind"))]
pub struct StartFailureKindSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "saga_state"))]
pub struct SagaStateSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "intended_state"))]
pub struct IntendedStateSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "affinity_group_kind"))]
pub struct AffinityGroupKindSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "affinity_policy"))]
pub struct AffinityPolicySql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "instance_cpu_platform"))]
pub struct InstanceCpuPlatformSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "sled_cpu"))]
pub struct SledCpuSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "disk_backend"))]
pub struct DiskBackendSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "disk_state"))]
pub struct DiskStateSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "blocks_place"))]
pub struct BlocksPlaceSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "role_resource"))]
pub struct RoleResourceSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "role_name"))]
pub struct RoleNameSql;

#[derive(Clone, Copy, Debug, SqlType, QueryId)]
#[diesel(postgres_type(name = "auth_method"))]
pub struct AuthMethodSql;
