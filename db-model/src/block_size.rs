//! The size of a disk's blocks, in bytes.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::{Deserialize, Serialize};

/// The size of a disk's blocks, in bytes: 512, 2048 or 4096.
#[derive(
    AsExpression,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    FromSqlRow,
    PartialEq,
    Serialize,
)]
#[diesel(sql_type = BigInt)]
#[serde(try_from = "u32")]
pub struct BlockSize(u32);

impl BlockSize {
    /// A local disk's.
    pub const LOCAL: BlockSize = BlockSize(4096);

    const ALL: [u32; 3] = [512, 2048, 4096];

    /// In bytes.
    pub fn to_u64(self) -> u64 {
        self.0.into()
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        if Self::ALL.contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(format!("block size {bytes} is none of {:?}", Self::ALL))
    }
}

impl JsonSchema for BlockSize {
    fn schema_name() -> String {
        "BlockSize".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = SchemaObject {
            instance_type: Some(InstanceType::Integer.into()),
            enum_values: Some(Self::ALL.map(Into::into).into()),
            ..SchemaObject::default()
        };
        schema.metadata().description =
            Some("The size of a disk's blocks, in bytes".to_owned());
        Schema::Object(schema)
    }
}

impl ToSql<BigInt, Pg> for BlockSize {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<BigInt, Pg>::to_sql(&i64::from(self.0), &mut out.reborrow())
    }
}

impl FromSql<BigInt, Pg> for BlockSize {
    fn from_sql(
        bytes: <Pg as Backend>::RawValue<'_>,
    ) -> deserialize::Result<Self> {
        let bytes = <i64 as FromSql<BigInt, Pg>>::from_sql(bytes)?;
        Ok(Self::try_from(u32::try_from(bytes)?)?)
    }
}
