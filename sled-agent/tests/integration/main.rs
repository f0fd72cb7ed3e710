//! The agent through its front door: its binary, over HTTP, with a Nexus that
//! the test plays.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop anywhere"
)]

mod access;
mod agent;
mod blocks;
mod blocks_failures;
mod blocks_shared;
mod blocks_tools;
mod boot_sector;
mod both;
mod console;
mod disks;
mod eventually;
mod faults;
mod fleet;
mod guests;
mod lifecycle;
mod nexus;
mod real;
mod register;
mod reports;
mod restart;
mod storm;
