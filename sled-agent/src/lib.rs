//! sled-agent
