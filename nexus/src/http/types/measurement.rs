//! What was measured, and when. Nothing is yet.

use chrono::{DateTime, Utc};
use db_model::NameOrId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Which metric, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MetricPath {
    /// What is measured.
    pub metric_name: SystemMetricName,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemMetricName {
    /// Bytes of disks.
    VirtualDiskSpaceProvisioned,
    /// vCPUs of instances.
    CpusProvisioned,
    /// Bytes of instances' memory.
    RamProvisioned,
}

/// When, and in which order.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct MetricTimes {
    /// Nothing before this.
    pub start_time: Option<DateTime<Utc>>,
    /// Nothing from this on.
    pub end_time: Option<DateTime<Utc>>,
    /// The oldest first, or the newest.
    pub order: Option<MeasurementOrder>,
}

/// In which order measurements are told.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasurementOrder {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// What was measured in the caller's silo.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SiloMetricSelector {
    #[expect(missing_docs, reason = "see its type")]
    #[serde(flatten)]
    pub times: MetricTimes,
    /// In this project only.
    pub project: Option<NameOrId>,
}

/// What was measured in the fleet.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SystemMetricSelector {
    #[expect(missing_docs, reason = "see its type")]
    #[serde(flatten)]
    pub times: MetricTimes,
    /// In this silo only.
    pub silo: Option<NameOrId>,
}

/// A question about what was measured.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TimeseriesQuery {
    /// In OxQL, which says `get` and the name of what was measured before it
    /// says anything else.
    pub query: String,
}

/// The answer to a question about what was measured.
#[derive(Debug, JsonSchema, Serialize)]
pub struct OxqlQueryResult {
    /// One for what was asked for.
    pub tables: Vec<OxqlTable>,
}

/// What was measured under one name.
#[derive(Debug, JsonSchema, Serialize)]
pub struct OxqlTable {
    /// The name.
    pub name: String,
    /// What was measured.
    pub timeseries: Vec<Timeseries>,
}

/// What one thing was measured to be.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Timeseries {
    /// What tells the thing from others.
    pub fields: BTreeMap<String, Value>,
    /// When it was what.
    pub points: Points,
}

/// When something was what.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Points {
    /// Since when each value was summed up, if it was.
    pub start_times: Option<Vec<DateTime<Utc>>>,
    /// When each value was measured.
    pub timestamps: Vec<DateTime<Utc>>,
    /// The values.
    pub values: Vec<Value>,
}

/// What something was measured to be.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Measurement {
    /// When.
    pub timestamp: DateTime<Utc>,
    /// What it was.
    pub datum: Value,
}

/// How something is measured.
#[derive(Debug, JsonSchema, Serialize)]
pub struct TimeseriesSchema {
    /// What a query gets.
    pub timeseries_name: String,
    /// In words.
    pub description: TimeseriesDescription,
    /// What tells one thing from others.
    pub field_schema: Vec<Value>,
    /// What a value is.
    pub datum_type: DatumType,
    /// What a value counts.
    pub units: Units,
    /// Who may see it.
    pub authz_scope: AuthzScope,
    /// Which edition of this this is.
    pub version: u8,
    /// When this was made.
    pub created: DateTime<Utc>,
}

/// How something is measured, in words.
#[derive(Debug, JsonSchema, Serialize)]
pub struct TimeseriesDescription {
    /// What is measured.
    pub target: String,
    /// What of it.
    pub metric: String,
}

/// What a value is.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatumType {
    /// A count of what there is.
    U64,
    /// A measure of what there is.
    F64,
    /// A count of what has been.
    CumulativeU64,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// Who may see what was measured.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthzScope {
    /// Who may see the fleet.
    Fleet,
    /// Who is of the silo.
    Silo,
    /// Who may see the project.
    Project,
}
