//! A sled that is no longer of the fleet.

use crate::agent::{Agent, GIB, refusal};
use crate::nexus::Nexus;
use sled_agent_client::{EndReason, RefusalCode, VmmState};
