//! sled-agent-client
