//! What the fuzzer tries at length (`fuzz/`), tried for a moment with chance
//! alone, wherever the tests run: the fuzzer itself needs another compiler.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may, and so may what it tries"
)]

#[path = "../../fuzz/fuzz_targets/credentials.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod credentials;
#[path = "../../fuzz/fuzz_targets/front.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod front;
#[path = "../../fuzz/fuzz_targets/idempotency.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod idempotency;
#[path = "../../fuzz/fuzz_targets/name.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod name;
#[path = "../../fuzz/fuzz_targets/page_token.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod page_token;
#[path = "../../fuzz/fuzz_targets/sled_report.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod sled_report;
#[path = "../../fuzz/fuzz_targets/websocket.rs"]
#[allow(unused_attributes, reason = "it is a program elsewhere")]
mod websocket;

use fastrand::Rng;

/// Inputs of each target.
const INPUTS: u32 = 200_000;

/// Words of one input at most.
const WORDS: usize = 12;

/// Says, if the target panics, with what.
struct Tried<'a>(&'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {}", self.0.escape_ascii());
        }
    }
}

/// Tries inputs that are made of these words, and of whatever else.
fn try_all(once: fn(&[u8]), words: &[&str]) {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok();
    let mut rng = match seed.and_then(|seed| seed.parse().ok()) {
        Some(seed) => Rng::with_seed(seed),
        None => Rng::new(),
    };
    for _ in 0..INPUTS {
        let input = input(&mut rng, words);
        let _tried = Tried(&input);
        once(&input);
    }
}

fn input(rng: &mut Rng, words: &[&str]) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..rng.usize(..=WORDS) {
        match (rng.u8(..4), rng.choice(words)) {
            (0, _) | (_, None) => {
                input.extend((0..rng.usize(..8)).map(|_| rng.u8(..)));
            }
            (1.., Some(word)) => input.extend(word.bytes()),
        }
    }
    // What is nearly right comes farther than what is wrong all over.
    if !input.is_empty() && rng.u8(..4) == 0 {
        let at = rng.usize(..input.len());
        if let Some(byte) = input.get_mut(at) {
            *byte = rng.u8(..);
        }
    }
    input
}

#[test]
fn credentials_are_found_or_not() {
    let words = ["session=", "; ", "Bearer ", "bearer", "nexus-token-", "\t"];
    try_all(credentials::once, &words);
}

#[test]
fn a_request_s_head_is_served_or_refused() {
    let words = ["GET", "POST", "/v1/", "?", "api-version", "2026060800.0.0"];
    try_all(front::once, &words);
}

#[test]
fn a_body_is_the_same_however_it_is_written() {
    let words = [
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "1", "-0", "1e3",
        "null", "true", " ", "\\u0000",
    ];
    try_all(idempotency::once, &words);
}

#[test]
fn a_name_is_taken_as_it_is() {
    let words = ["a", "-", "0", "Z", "é", ".", "_", "0123456789abcdef"];
    try_all(name::once, &words);
}

#[test]
fn a_page_token_says_the_same_when_it_is_read_again() {
    let words = [
        "page_token=",
        "limit=",
        "1",
        "&",
        "sort_by=",
        "name_ascending",
        "id_ascending",
        "project=",
        "eyJ2IjoidjEi",
        "%7B",
        "=",
    ];
    try_all(page_token::once, &words);
}

#[test]
fn no_report_makes_a_vmm_go_back() {
    let words = [
        "{\"vmm_id\":\"00000000-0000-0000-0000-000000000007\",\
          \"instance_id\":\"00000000-0000-0000-0000-000000000004\",\
          \"time_updated\":\"2026-01-02T03:04:05Z\",\"generation\":",
        "1",
        "2",
        "9",
        ",\"state\":\"running\",\"ever_ran\":true}\n",
        ",\"state\":\"starting\",\"ever_ran\":false}\n",
        ",\"state\":\"destroyed\",\"ever_ran\":true,\
          \"end_reason\":\"requested\"}\n",
        "run\n",
        "unknown\n",
        "fenced\n",
        "cut off\n",
    ];
    try_all(sled_report::once, &words);
}

#[test]
fn what_is_sent_to_a_console_ends() {
    let words = ["\u{1}", "\0", "~", "\x7f", "aaaaaaaaaaaaaaaa"];
    try_all(websocket::once, &words);
}
