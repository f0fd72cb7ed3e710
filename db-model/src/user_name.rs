//! What a user of a silo calls itself when it logs in.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::{parsed_text, string_schema};

/// As much as Oxide's API takes.
const MAX_LEN: usize = 63;

/// A user's name in its silo. Unlike a [`crate::Name`] it may have capitals.
#[derive(
    AsExpression,
    Clone,
    Debug,
    Deserialize,
    Eq,
    FromSqlRow,
    Hash,
    PartialEq,
    Serialize,
)]
#[diesel(sql_type = Text)]
#[serde(try_from = "String")]
pub struct UserName(String);

/// Why a string is not a [`UserName`]; the message says what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid user name \"{value:.64}\": {rule}")]
pub struct InvalidUserName {
    value: String,
    rule: &'static str,
}

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn broken_rule(value: &str) -> Option<&'static str> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if value.is_empty() {
            Some("it must have at least 1 character")
        } else if value.len() > MAX_LEN {
            Some("it must have at most 63 characters")
        } else if !value.starts_with(|c: char| c.is_ascii_lowercase()) {
            Some("it must start with a letter from a to z")
        } else if !value.chars().all(allowed) {
            Some("it may contain only letters, digits and '-'")
        } else if value.ends_with('-') {
            Some("it must not end with '-'")
        } else if Uuid::parse_str(value).is_ok() {
            Some("it must not look like a UUID")
        } else {
            None
        }
    }
}

parsed_text!(UserName, InvalidUserName);

impl JsonSchema for UserName {
    fn schema_name() -> String {
        "UserId".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        string_schema(
            "A user's name in its silo",
            "Starts with a lower case letter, goes on with letters, digits \
             and '-', does not end with '-', and does not look like a UUID.",
            concat!(
                "^(?![0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}",
                "-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$)",
                "^[a-z]([a-zA-Z0-9-]*[a-zA-Z0-9]+)?$",
            ),
            63,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_as_in_oxide_s_api() {
        for good in ["a", "admin", "hannah-arendt", "mJones2", "a-1"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "-a",
            "a-",
            "1a",
            "Admin",
            "a b",
            "a@b.c",
            &long,
            "b5a1b0b2-7a4c-4c8e-9a57-0c5d1a0d0001",
        ] {
            let error = bad.parse::<UserName>().expect_err(bad).to_string();
            assert!(error.contains("it m"), "{error}");
        }
    }
}
