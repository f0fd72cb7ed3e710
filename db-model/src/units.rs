//! Sizes: bytes and virtual CPUs, each a type of its own.
//!
//! Any size that fits the database is representable; what an instance may
//! have is a rule of the API, not of the unit.

use std::fmt;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;
use schemars::JsonSchema;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const TIB: i64 = 1 << 40;

/// A number of bytes, of memory or of storage.
// Held as the database holds it, so that reading it back cannot fail for size.
#[derive(
    AsExpression,
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    FromSqlRow,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[diesel(sql_type = BigInt)]
#[serde(into = "u64")]
pub struct ByteCount(#[schemars(with = "u64")] i64);

/// A number of bytes that is negative or does not fit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid byte count {value}: it must be between 0 and {}", i64::MAX)]
pub struct InvalidByteCount {
    value: i128,
}

impl ByteCount {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// One GiB: the step in which memory and disks are given out.
    pub const GIB: Self = Self(GIB);

    /// So many GiB.
    pub fn from_gib(gib: u32) -> Self {
        // 2^32 GiB are 2^62 bytes: it always fits.
        Self(i64::from(gib) * GIB)
    }

    /// The bytes as the database counts them.
    pub const fn to_i64(self) -> i64 {
        self.0
    }

    /// The bytes as JSON counts them.
    pub const fn to_u64(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// The sum, if it fits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or zero if `other` is more.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// Is this a whole number of `step`?
    pub const fn is_multiple_of(self, step: Self) -> bool {
        self.to_u64().is_multiple_of(step.to_u64())
    }
}

impl TryFrom<u64> for ByteCount {
    type Error = InvalidByteCount;

    fn try_from(value: u64) -> Result<Self, InvalidByteCount> {
        i64::try_from(value)
            .map(Self)
            .map_err(|_| InvalidByteCount { value: value.into() })
    }
}

impl TryFrom<i64> for ByteCount {
    type Error = InvalidByteCount;

    fn try_from(value: i64) -> Result<Self, InvalidByteCount> {
        if value < 0 {
            return Err(InvalidByteCount { value: value.into() });
        }
        Ok(Self(value))
    }
}

// By hand, so that the refusal of a number says which would be right.
impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = ByteCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of bytes from 0 to {}", i64::MAX)
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<ByteCount, E> {
                ByteCount::try_from(v).map_err(|_| {
                    E::invalid_value(Unexpected::Unsigned(v), &self)
                })
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<ByteCount, E> {
                ByteCount::try_from(v)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))
            }
        }

        deserializer.deserialize_u64(Bytes)
    }
}

impl From<ByteCount> for u64 {
    fn from(bytes: ByteCount) -> u64 {
        bytes.to_u64()
    }
}

/// For people, and exact: in the largest unit that needs no fraction.
impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        for (size, unit) in units {
            if self.0 >= size && self.0 % size == 0 {
                return write!(f, "{} {unit}", self.0 / size);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

impl ToSql<BigInt, Pg> for ByteCount {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <i64 as ToSql<BigInt, Pg>>::to_sql(&self.0, out)
    }
}

impl FromSql<BigInt, Pg> for ByteCount {
    fn from_sql(
        bytes: <Pg as Backend>::RawValue<'_>,
    ) -> deserialize::Result<Self> {
        Ok(<i64 as FromSql<BigInt, Pg>>::from_sql(bytes)?.try_into()?)
    }
}

/// A number of virtual CPUs.
#[derive(
    AsExpression,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    FromSqlRow,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[diesel(sql_type = BigInt)]
#[serde(try_from = "i64")]
pub struct VcpuCount(u16);

/// A number of virtual CPUs that is negative or does not fit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid vCPU count {value}: it must be between 0 and {}", u16::MAX)]
pub struct InvalidVcpuCount {
    value: i64,
}

impl VcpuCount {
    /// So many virtual CPUs.
    pub const fn new(count: u16) -> Self {
        Self(count)
    }

    /// The count as JSON holds it.
    pub const fn to_u16(self) -> u16 {
        self.0
    }

    /// The count as the database holds it, so that sums do not overflow.
    pub fn to_i64(self) -> i64 {
        self.0.into()
    }
}

impl TryFrom<i64> for VcpuCount {
    type Error = InvalidVcpuCount;

    fn try_from(value: i64) -> Result<Self, InvalidVcpuCount> {
        u16::try_from(value).map(Self).map_err(|_| InvalidVcpuCount { value })
    }
}

impl fmt::Display for VcpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ToSql<BigInt, Pg> for VcpuCount {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <i64 as ToSql<BigInt, Pg>>::to_sql(&self.to_i64(), &mut out.reborrow())
    }
}

impl FromSql<BigInt, Pg> for VcpuCount {
    fn from_sql(
        bytes: <Pg as Backend>::RawValue<'_>,
    ) -> deserialize::Result<Self> {
        Ok(<i64 as FromSql<BigInt, Pg>>::from_sql(bytes)?.try_into()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn byte_counts_read_well_and_exactly() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (KIB, "1 KiB"),
            (MIB + KIB, "1025 KiB"),
            (512 * MIB, "512 MiB"),
            (4 * GIB, "4 GiB"),
            (1536 * GIB, "1536 GiB"),
            (2 * TIB, "2 TiB"),
            (GIB + 1, "1073741825 bytes"),
        ] {
            assert_eq!(ByteCount::try_from(bytes).unwrap().to_string(), text);
        }
    }

    #[test]
    fn byte_counts_outside_the_database_s_range_are_refused() {
        assert!(ByteCount::try_from(-1_i64).is_err());
        let error = serde_json::from_str::<ByteCount>("9223372036854775808")
            .unwrap_err();
        assert!(error.to_string().contains("from 0 to 9223372036854775807"));
        assert!(serde_json::from_str::<ByteCount>("-1").is_err());
    }

    #[test]
    fn vcpu_counts_outside_the_wire_s_range_are_refused() {
        assert_eq!(VcpuCount::try_from(254_i64), Ok(VcpuCount::new(254)));
        for value in [-1, 65_536, i64::MIN, i64::MAX] {
            assert!(VcpuCount::try_from(value).is_err(), "{value}");
        }
        let error = serde_json::from_str::<VcpuCount>("-1").unwrap_err();
        assert!(error.to_string().contains("between 0 and 65535"));
    }

    proptest! {
        #[test]
        fn byte_counts_survive_json(value in 0..=i64::MAX) {
            let bytes = ByteCount::try_from(value).unwrap();
            let json = serde_json::to_string(&bytes).unwrap();
            prop_assert_eq!(&json, &value.to_string());
            prop_assert_eq!(
                serde_json::from_str::<ByteCount>(&json).unwrap(),
                bytes
            );
        }

        #[test]
        fn what_is_taken_away_and_given_back_adds_up(
            a in 0..=i64::MAX,
            b in 0..=i64::MAX,
        ) {
            let (a, b) = (a.max(b), a.min(b));
            let all = ByteCount::try_from(a).unwrap();
            let part = ByteCount::try_from(b).unwrap();
            let rest = all.saturating_sub(part);
            prop_assert_eq!(rest.checked_add(part), Some(all));
            prop_assert_eq!(part.saturating_sub(all), ByteCount::ZERO);
        }

        #[test]
        fn every_whole_number_of_gib_is_a_multiple(gib in any::<u32>()) {
            prop_assert!(
                ByteCount::from_gib(gib).is_multiple_of(ByteCount::GIB)
            );
        }
    }
}
