//! What may be asked of a sled, and what a sled or an operator may ask of Nexus
//! in private.
//!
//! | who asks | the API | its client |
//! |---|---|---|
//! | Nexus asks a sled | [`SledAgentApi`], the trait that `sled-agent` implements | [`Client`] |
//! | a sled, or an operator, asks Nexus | served by `nexus`, with the types of [`nexus_types`] | [`NexusClient`] |
//!
//! Ids are plain UUIDs here: this crate knows nothing of Nexus's database.
//! All of it is mutual TLS, by certificates of the fleet's own
//! ([`fleet_pki`]), and every request, in both directions, carries the sled's
//! [`Secret`].

mod api;
mod blocks;
mod client;
mod console;
mod console_stream;
mod error;
mod exchange;
mod membership;
mod nexus_client;
pub mod nexus_types;
mod refusal;
mod secret;
mod types;

pub use api::{
    SLED_ID_HEADER, SledAgentApi, VmmPath, openapi, sled_agent_api_mod,
};
pub use blocks::{
    BlocksEnsure, BlocksPath, BlocksPlace, BlocksQuery, BlocksReport,
    BlocksSource, BlocksState, ChunkQuery, MAX_CHUNK_BYTES,
};
pub use client::{Client, Timeouts};
pub use console::{
    ConsolePart, ConsoleQuery, ConsoleStreamQuery, MAX_CONSOLE_PART_BYTES,
};
pub use console_stream::{
    ConsoleStream, MAX_CONSOLE_MESSAGE_BYTES, console_socket_config,
};
pub use error::{Error, Unreachable};
pub use membership::{
    CertificateIssued, CertificateRequest, JoinRequest, Joined, join,
};
pub use nexus_client::{NexusClient, NexusError};
pub use refusal::{
    NO_SUCH_BLOCKS, NO_SUCH_CONSOLE, NO_SUCH_INSTANCE, NO_SUCH_VMM, RECOVERING,
    RefusalCode, SLED_UNKNOWN, WRONG_SLED,
};
pub use secret::{Secret, SecretError};
pub use types::{
    EndReason, FailureReason, RequestedState, VmmDisk, VmmFailure, VmmList,
    VmmNetwork, VmmRegister, VmmReport, VmmState, VmmStateRequested,
    VmmUnregistered,
};
