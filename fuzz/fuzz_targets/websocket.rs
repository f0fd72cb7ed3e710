//! What a user sends on the stream of a serial console. It comes to an end, and
//! no message that is passed on is longer than any may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sled_agent_client::MAX_CONSOLE_MESSAGE_BYTES;

fuzz_target!(|frames: &[u8]| {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().unwrap();
    let passed = runtime.block_on(nexus::consoles::passed_up(frames.to_vec()));
    for message in passed {
        assert!(message.len() <= MAX_CONSOLE_MESSAGE_BYTES);
    }
});
