//! sled-agent
fn main() {}
