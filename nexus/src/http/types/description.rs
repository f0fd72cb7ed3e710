//! The free text that goes with a name.

use crate::error::Error;

/// What the database has room for.
const MAX_CHARS: usize = 512;

/// Refuses a description that cannot be kept.
pub(super) fn check_description(description: &str) -> Result<(), Error> {
    let chars = description.chars().count();
    if chars > MAX_CHARS {
        return Err(Error::invalid_value(
            "description",
            format!("{chars} characters are too many: at most {MAX_CHARS}"),
        ));
    }
    // PostgreSQL's text holds any character but this one.
    if description.contains('\0') {
        return Err(Error::invalid_value(
            "description",
            "it must not contain the character U+0000",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_measured_in_characters() {
        assert!(check_description("").is_ok());
        assert!(check_description(&"ü".repeat(512)).is_ok());
        assert!(check_description(&"a".repeat(513)).is_err());
    }

    #[test]
    fn a_description_that_the_database_refuses_is_refused_before() {
        assert!(check_description("a\0b").is_err());
    }
}
