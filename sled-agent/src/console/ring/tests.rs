use super::*;
use camino::Utf8PathBuf;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn ring(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join("a.ring")
    }
}

/// What may happen to a ring.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    /// The writer dies, having written so many bytes of these.
    Die(Vec<u8>, usize),
    /// Another writer goes on.
    Reopen,
    Read(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        4 => bytes().prop_map(Step::Append),
        1 => (bytes(), 0_usize..40).prop_map(|(b, n)| Step::Die(b, n)),
        1 => Just(Step::Reopen),
        4 => (0_u64..400, 0_u64..60).prop_map(|(f, m)| Step::Read(f, m)),
    ];
    prop::collection::vec(step, 0..40)
}

/// Dies after it has said what it is about to lose and has written a part.
fn die(ring: &Ring, bytes: &[u8], written: usize) {
    let piece = &bytes[..bytes.len().min(size(ring.capacity).unwrap())];
    let oldest = (ring.end + length(piece)).saturating_sub(ring.capacity);
    put_number(&ring.file, OLDEST_AT, ring.oldest.max(oldest)).unwrap();
    for (n, byte) in piece.iter().take(written).enumerate() {
        let at = (ring.end + u64::try_from(n).unwrap()) % ring.capacity;
        ring.file.write_all_at(&[*byte], BYTES_AT + at).unwrap();
    }
}

proptest! {
    #[test]
    fn a_ring_says_what_a_vector_says_as_far_as_it_reaches(
        capacity in 1_u64..50,
        steps in steps(),
    ) {
        let dir = Dir::new();
        let mut ring = Ring::open(&dir.ring(), capacity).unwrap();
        let reader = RingReader::open(&dir.ring()).unwrap();
        let mut all = Vec::new();
        // The first offset that must be there.
        let mut kept = 0_u64;
        for step in steps {
            let capacity = ring.capacity;
            match step {
                Step::Append(bytes) => {
                    ring.append(&bytes).unwrap();
                    all.extend_from_slice(&bytes);
                    kept = kept.max(length(&all).saturating_sub(capacity));
                }
                Step::Die(bytes, written) => {
                    die(&ring, &bytes, written);
                    let lost = length(&bytes).min(capacity) + length(&all);
                    kept = kept.max(lost.saturating_sub(capacity));
                    ring = Ring::open(&dir.ring(), 7).unwrap();
                }
                Step::Reopen => ring = Ring::open(&dir.ring(), 7).unwrap(),
                Step::Read(from, max) => {
                    let end = length(&all);
                    let part = reader.read(from, max).unwrap();
                    let start = from.max(kept).min(end);
                    prop_assert_eq!(part.start, start);
                    prop_assert_eq!(part.end, end.min(start + max));
                    let [start, end] =
                        [part.start, part.end].map(|at| size(at).unwrap());
                    prop_assert_eq!(&part.bytes, &all[start..end]);
                }
            }
            prop_assert_eq!(reader.end().unwrap(), length(&all));
        }
    }
}

/// A byte that tells its offset, within reason.
fn byte_at(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    u8::try_from(mixed).unwrap()
}

#[test]
fn a_reader_that_is_lapped_never_reads_a_byte_of_another_lap() {
    let dir = Dir::new();
    let mut ring = Ring::open(&dir.ring(), 257).unwrap();
    let done = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let reader = RingReader::open(&dir.ring()).unwrap();
            let (mut from, mut read) = (0, 0_u64);
            loop {
                let last = done.load(Ordering::SeqCst);
                let part = reader.read(from, 200).unwrap();
                assert!(part.start >= from, "{part:?}");
                for (offset, byte) in (part.start..).zip(&part.bytes) {
                    assert_eq!(*byte, byte_at(offset), "at {offset}");
                }
                read += length(&part.bytes);
                if last && part.bytes.is_empty() {
                    return read;
                }
                from = part.end;
            }
        });
        let mut offset = 0_u64;
        for turn in 0_u64..40_000 {
            let end = offset + 1 + turn % 101;
            let piece: Vec<_> = (offset..end).map(byte_at).collect();
            ring.append(&piece).unwrap();
            offset = end;
        }
        done.store(true, Ordering::SeqCst);
        reading.join().unwrap()
    });
    assert!(read >= 257, "read {read}");
}

#[test]
fn what_is_no_ring_is_begun_anew_and_read_by_nobody() {
    let dir = Dir::new();
    std::fs::write(dir.ring(), "ring-1\n\0 and so on").unwrap();
    assert!(RingReader::open(&dir.ring()).is_err());
    let mut ring = Ring::open(&dir.ring(), 4).unwrap();
    ring.append(b"abcdefg").unwrap();
    let part = RingReader::open(&dir.ring()).unwrap().read(0, 99).unwrap();
    assert_eq!((part.start, part.end), (3, 7));
    assert_eq!(part.bytes, b"defg");
}

#[test]
fn a_ring_without_room_is_refused() {
    let dir = Dir::new();
    assert!(Ring::open(&dir.ring(), 0).is_err());
}
