//! Addresses, networks and interfaces on the wire. There are none yet.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use db_model::{InstanceId, Name, NameOrId, ProjectId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Whose network interfaces.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct InterfacesOf {
    /// Name or id of the instance.
    pub instance: NameOrId,
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
}

/// Which network interface, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InterfacePath {
    /// Name or id of the interface.
    pub interface: NameOrId,
}

/// The instance in which to look for an interface that is called by name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct OptionalInstanceSelector {
    /// Name or id of the instance; needed when the interface is called by
    /// name.
    pub instance: Option<NameOrId>,
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
}

/// Which pool of addresses, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PoolPath {
    /// Name or id of the pool.
    pub pool: NameOrId,
}

/// Which pools of addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PoolsOf {
    /// Those of this version only.
    pub ip_version: Option<IpVersion>,
    /// Those of this type only.
    pub pool_type: Option<IpPoolType>,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the addresses of a pool are for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IpPoolType {
    /// Each for one.
    Unicast,
    /// Each for a group.
    Multicast,
}

/// Which VPC, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct VpcPath {
    /// Name or id of the VPC.
    pub vpc: NameOrId,
}

/// Which subnet, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SubnetPath {
    /// Name or id of the subnet.
    pub subnet: NameOrId,
}

/// The VPC and the project in which to look for subnets.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct OptionalVpcSelector {
    /// Name or id of the VPC.
    pub vpc: Option<NameOrId>,
    /// Name or id of the project; needed when the VPC is called by name.
    pub project: Option<NameOrId>,
}

/// An address at which an instance is reached from outside.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExternalIp {
    /// One by which the instance reaches what is outside, and shares with
    /// others.
    Snat {
        /// The address.
        ip: IpAddr,
        /// The pool that it is from.
        ip_pool_id: Uuid,
        /// The first port that is the instance's.
        first_port: u16,
        /// The last port that is the instance's.
        last_port: u16,
    },
    /// One that is given back with the instance.
    Ephemeral {
        /// The address.
        ip: IpAddr,
        /// The pool that it is from.
        ip_pool_id: Uuid,
    },
}

/// An address that can go from instance to instance.
#[derive(Debug, JsonSchema, Serialize)]
pub struct FloatingIp {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// The address.
    pub ip: IpAddr,
    /// The pool that it is from.
    pub ip_pool_id: Uuid,
    /// The instance that has it.
    pub instance_id: Option<InstanceId>,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// Addresses at which an instance is reached from outside.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ExternalSubnet {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// The addresses, as in `203.0.113.0/28`.
    pub subnet: String,
    /// The pool that they are from.
    pub subnet_pool_id: Uuid,
    /// The part of the pool that they are from.
    pub subnet_pool_member_id: Uuid,
    /// The instance that has it.
    pub instance_id: Option<InstanceId>,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// Addresses to be given to instances.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SiloIpPool {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the fleet.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The version of its addresses.
    pub ip_version: IpVersion,
    /// What its addresses are for.
    pub pool_type: IpPoolType,
    /// Is it taken when none is named?
    pub is_default: bool,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A network of instances.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Vpc {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// What it is called in names of hosts.
    pub dns_name: Name,
    /// The IPv6 addresses of its subnets.
    pub ipv6_prefix: String,
    /// The router that it came with.
    pub system_router_id: Uuid,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A part of a network of instances.
#[derive(Debug, JsonSchema, Serialize)]
pub struct VpcSubnet {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the VPC.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The VPC that it is in.
    pub vpc_id: Uuid,
    /// Its IPv4 addresses.
    pub ipv4_block: String,
    /// Its IPv6 addresses.
    pub ipv6_block: String,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// How an instance is in a network.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceNetworkInterface {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the instance.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The instance that has it.
    pub instance_id: InstanceId,
    /// The VPC that it leads to.
    pub vpc_id: Uuid,
    /// The subnet that it leads to.
    pub subnet_id: Uuid,
    /// Its address on the link.
    pub mac: String,
    /// Its addresses.
    pub ip_stack: Value,
    /// Is it the one that the guest's name leads to?
    pub primary: bool,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}
