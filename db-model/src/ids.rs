//! Identities. Each kind of thing has its own type, so that a sled's id cannot
//! stand where an instance's belongs.

/// Declares an id: a UUID in a type of its own.
///
/// ```text
/// typed_id! { /// Identifies a sled.
///     SledId }
/// ```
///
/// expands to a `Copy` newtype of `Uuid` with serde and JSON schema as a UUID,
/// `Display`, `FromStr`, `new_v4`, conversions both ways, and diesel's `Uuid`.
macro_rules! typed_id {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[serde(transparent)]
        #[diesel(sql_type = diesel::sql_types::Uuid)]
        pub struct $name(pub uuid::Uuid);

        impl $name {
            /// A new random id.
            pub fn new_v4() -> Self {
                $name(uuid::Uuid::new_v4())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                s.parse().map($name)
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                $name(id)
            }
        }

        impl From<$name> for uuid::Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> String {
                <uuid::Uuid as schemars::JsonSchema>::schema_name()
            }
            fn json_schema(
                generator: &mut schemars::r#gen::SchemaGenerator,
            ) -> schemars::schema::Schema {
                <uuid::Uuid as schemars::JsonSchema>::json_schema(generator)
            }
            fn is_referenceable() -> bool {
                <uuid::Uuid as schemars::JsonSchema>::is_referenceable()
            }
        }

        impl diesel::serialize::ToSql<
            diesel::sql_types::Uuid,
            diesel::pg::Pg,
        > for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                diesel::serialize::ToSql::<
                    diesel::sql_types::Uuid,
                    diesel::pg::Pg,
                >::to_sql(&self.0, out)
            }
        }

        impl diesel::deserialize::FromSql<
            diesel::sql_types::Uuid,
            diesel::pg::Pg,
        > for $name {
            fn from_sql(
                bytes: diesel::pg::PgValue<'_>,
            ) -> diesel::deserialize::Result<Self> {
                <uuid::Uuid as diesel::deserialize::FromSql<
                    diesel::sql_types::Uuid,
                    diesel::pg::Pg,
                >>::from_sql(bytes)
                .map($name)
            }
        }
    )+};
}

typed_id! {
    /// Identifies a tenant.
    SiloId,
    /// Identifies a user of a silo.
    SiloUserId,
    /// Identifies an API token (which is a secret; this is not).
    ApiTokenId,
    /// Identifies a console session (whose cookie is a secret; this is not).
    ConsoleSessionId,
    /// Identifies a device that wants to log in. It goes into the token that
    /// the device is given, and so is told to nobody.
    DeviceRequestId,
    /// Identifies a project.
    ProjectId,
    /// Identifies an instance.
    InstanceId,
    /// Identifies an affinity or anti-affinity group.
    AffinityGroupId,
    /// Identifies a disk.
    DiskId,
    /// Identifies a snapshot of a disk.
    SnapshotId,
    /// Identifies an image.
    ImageId,
    /// Identifies blocks, on a sled or in the store.
    BlocksId,
    /// Identifies a user's SSH key.
    SshKeyId,
    /// Identifies one run of an instance on a sled.
    VmmId,
    /// Identifies a host.
    SledId,
    /// Identifies a token to join by (which is a secret; this is not).
    SledJoinTokenId,
    /// Identifies an attempt to start an instance.
    StartAttemptId,
    /// Identifies a saga.
    SagaId,
    /// Identifies a process that runs sagas: a Nexus, from its start to its
    /// end.
    SecId,
}
