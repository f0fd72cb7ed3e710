//! The placement's decisions, as tables and against an oracle that knows
//! nothing of how they are come by.

mod decides;
mod explains;
mod fleets;
mod helps;
