//! What QEMU says when it does not start, in a sentence to the instance's
//! user: nothing of it but what helps them.

/// Words of QEMU, and what they mean to a user. The first that fits counts.
const MEANINGS: [(&str, &str); 8] = [
    ("Failed to get \"", "A disk of the instance is in use by something else."),
    (
        "Is another process using",
        "A disk of the instance is in use by something else.",
    ),
    (
        "not in qcow2 format",
        "What is kept of a disk of the instance is damaged.",
    ),
    ("Image is corrupt", "What is kept of a disk of the instance is damaged."),
    ("qcow2", "A disk of the instance cannot be read."),
    (
        "Cannot allocate memory",
        "The host does not have the memory that the instance asks for.",
    ),
    (
        "cannot set up guest memory",
        "The host does not have the memory that the instance asks for.",
    ),
    ("KVM", "The host cannot run guests for the moment."),
];

/// Why the guest did not come up.
pub(super) fn sentence(stderr: &str) -> String {
    let meaning = MEANINGS.iter().find(|(said, _)| stderr.contains(said));
    let meaning = meaning.map(|(_, meaning)| *meaning);
    meaning.unwrap_or("The host could not start the guest.").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_is_told_without_its_paths() {
        for (stderr, told) in [
            (
                "qemu-system-x86_64: -blockdev {\"driver\": \"qcow2\"}: Failed \
                 to get \"write\" lock\nIs another process using the image \
                 [/dev/fdset/1]?",
                "in use",
            ),
            (
                "qemu-system-x86_64: -blockdev {\"driver\": \"qcow2\"}: Image \
                 is not in qcow2 format",
                "damaged",
            ),
            (
                "qemu-system-x86_64: cannot set up guest memory 'pc.ram': \
                 Cannot allocate memory",
                "memory",
            ),
            ("Segmentation fault", "could not start"),
        ] {
            let sentence = sentence(stderr);
            assert!(sentence.contains(told), "{stderr}: {sentence}");
            assert!(!sentence.contains('/') && sentence.ends_with('.'));
        }
    }
}
