//! What users call things: names, host names, and "a name or an id".
//!
//! Each is parsed once, at the edge, and trusted everywhere inside.

use std::fmt;
use std::str::FromStr;

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{
    InstanceType, Metadata, Schema, SchemaObject, StringValidation,
    SubschemaValidation,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The length of a DNS label.
const NAME_MAX_LEN: usize = 63;

/// The length of a DNS name.
const HOSTNAME_MAX_LEN: usize = 253;

/// Has a string that follows rules, which `broken_rule` knows, parsed by them
/// wherever it comes from: text, JSON, the database. `$invalid` says which rule
/// is broken.
macro_rules! parsed_text {
    ($name:ident, $invalid:ident) => {
        impl TryFrom<String> for $name {
            type Error = $invalid;

            fn try_from(value: String) -> Result<Self, $invalid> {
                match Self::broken_rule(&value) {
                    None => Ok(Self(value)),
                    Some(rule) => Err($invalid { value, rule }),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $invalid;

            fn from_str(value: &str) -> Result<Self, $invalid> {
                value.to_owned().try_into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl diesel::serialize::ToSql<Text, diesel::pg::Pg> for $name {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, diesel::pg::Pg>,
            ) -> diesel::serialize::Result {
                let text = &self.0;
                diesel::serialize::ToSql::<Text, diesel::pg::Pg>::to_sql(
                    text, out,
                )
            }
        }

        impl diesel::deserialize::FromSql<Text, diesel::pg::Pg> for $name {
            fn from_sql(
                bytes: <diesel::pg::Pg as diesel::backend::Backend>::RawValue<
                    '_,
                >,
            ) -> diesel::deserialize::Result<Self> {
                let text: String = diesel::deserialize::FromSql::<
                    Text,
                    diesel::pg::Pg,
                >::from_sql(bytes)?;
                Ok(text.try_into()?)
            }
        }
    };
}

pub(crate) use parsed_text;

/// A name that a user gave to something; unique within what contains it.
///
/// It is never shaped like a UUID, so a [`NameOrId`] is never ambiguous.
#[derive(
    AsExpression,
    Clone,
    Debug,
    Deserialize,
    Eq,
    FromSqlRow,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[diesel(sql_type = Text)]
#[serde(try_from = "String")]
pub struct Name(String);

/// Why a string is not a [`Name`]; the message says what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid name \"{value:.64}\": {rule}")]
pub struct InvalidName {
    value: String,
    rule: &'static str,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first rule that `value` breaks.
    fn broken_rule(value: &str) -> Option<&'static str> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if value.is_empty() {
            Some("it must have at least 1 character")
        } else if value.len() > NAME_MAX_LEN {
            Some("it must have at most 63 characters")
        } else if !value.starts_with(|c: char| c.is_ascii_lowercase()) {
            Some("it must start with a letter from a to z")
        } else if !value.chars().all(allowed) {
            Some("it may contain only a to z, 0 to 9 and '-'")
        } else if value.ends_with('-') {
            Some("it must not end with '-'")
        } else if Uuid::parse_str(value).is_ok() {
            Some("it must not look like a UUID")
        } else {
            None
        }
    }
}

parsed_text!(Name, InvalidName);

impl JsonSchema for Name {
    fn schema_name() -> String {
        "Name".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        string_schema(
            "Name",
            "Starts with a lower case letter, goes on with lower case \
             letters, digits and '-', does not end with '-', and does not \
             look like a UUID.",
            concat!(
                "^(?![0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}",
                "-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$)",
                "^[a-z]([a-zA-Z0-9-]*[a-zA-Z0-9]+)?$",
            ),
            63,
        )
    }
}

/// What an instance calls itself: labels of letters, digits and '-', joined
/// by dots.
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
pub struct Hostname(String);

/// Why a string is not a [`Hostname`]; the message says what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid hostname \"{value:.64}\": {rule}")]
pub struct InvalidHostname {
    value: String,
    rule: &'static str,
}

impl Hostname {
    /// The host name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first rule that `value` breaks.
    fn broken_rule(value: &str) -> Option<&'static str> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(allowed)
        };
        if value.is_empty() {
            Some("it must have at least 1 character")
        } else if value.len() > HOSTNAME_MAX_LEN {
            Some("it must have at most 253 characters")
        } else if !value.split('.').all(label) {
            Some(
                "it must be made of letters, digits and '-', in parts \
                 joined by '.' that neither start nor end with '-'",
            )
        } else {
            None
        }
    }
}

parsed_text!(Hostname, InvalidHostname);

impl JsonSchema for Hostname {
    fn schema_name() -> String {
        "Hostname".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        string_schema(
            "Hostname",
            "Labels of letters, digits and '-', joined by dots.",
            concat!(
                r"^([a-zA-Z0-9]+[a-zA-Z0-9\-]*(?<!-))",
                r"(\.[a-zA-Z0-9]+[a-zA-Z0-9\-]*(?<!-))*$",
            ),
            253,
        )
    }
}

/// How a request points at something: by its id, or by its name.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(try_from = "String")]
pub enum NameOrId {
    /// By id, unique everywhere.
    Id(Uuid),
    /// By name, unique within what contains it.
    Name(Name),
}

impl TryFrom<String> for NameOrId {
    type Error = InvalidName;

    fn try_from(value: String) -> Result<Self, InvalidName> {
        match Uuid::parse_str(&value) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => value.try_into().map(Self::Name),
        }
    }
}

impl FromStr for NameOrId {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        value.to_owned().try_into()
    }
}

impl From<Name> for NameOrId {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

impl From<Uuid> for NameOrId {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for NameOrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for NameOrId {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for NameOrId {
    fn schema_name() -> String {
        "NameOrId".to_owned()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let choice = |title: &str, schema: Schema| {
            Schema::Object(SchemaObject {
                metadata: Some(Box::new(Metadata {
                    title: Some(title.to_owned()),
                    ..Metadata::default()
                })),
                subschemas: Some(Box::new(SubschemaValidation {
                    all_of: Some(vec![schema]),
                    ..SubschemaValidation::default()
                })),
                ..SchemaObject::default()
            })
        };
        Schema::Object(SchemaObject {
            subschemas: Some(Box::new(SubschemaValidation {
                one_of: Some(vec![
                    choice("id", generator.subschema_for::<Uuid>()),
                    choice("name", generator.subschema_for::<Name>()),
                ]),
                ..SubschemaValidation::default()
            })),
            ..SchemaObject::default()
        })
    }
}

/// The schema of a string that follows a pattern.
pub(crate) fn string_schema(
    title: &str,
    description: &str,
    pattern: &str,
    max_length: u32,
) -> Schema {
    Schema::Object(SchemaObject {
        metadata: Some(Box::new(Metadata {
            title: Some(title.to_owned()),
            description: Some(description.to_owned()),
            ..Metadata::default()
        })),
        instance_type: Some(InstanceType::String.into()),
        string: Some(Box::new(StringValidation {
            min_length: Some(1),
            max_length: Some(max_length),
            pattern: Some(pattern.to_owned()),
        })),
        ..SchemaObject::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "a1b2c3d4-0000-4000-8000-0123456789ab";

    #[test]
    fn names_that_are_right_are_taken() {
        let longest = format!("a{}", "b".repeat(62));
        for value in ["a", "db-1", "a--b", "x9", longest.as_str()] {
            assert_eq!(value.parse::<Name>().unwrap().as_str(), value);
        }
        let with_uuid_inside = format!("vm-{UUID}");
        assert!(with_uuid_inside.parse::<Name>().is_ok());
    }

    #[test]
    fn names_that_are_wrong_are_refused_with_the_rule() {
        let too_long = "a".repeat(64);
        for (value, rule) in [
            ("", "at least 1"),
            (too_long.as_str(), "at most 63"),
            ("1a", "start with a letter"),
            ("-a", "start with a letter"),
            ("Aa", "start with a letter"),
            ("aB", "only a to z"),
            ("a_b", "only a to z"),
            ("a b", "only a to z"),
            ("aé", "only a to z"),
            ("a-", "not end with"),
            (UUID, "not look like a UUID"),
            ("a1b2c3d40000400080000123456789ab", "not look like a UUID"),
        ] {
            let message = value.parse::<Name>().unwrap_err().to_string();
            assert!(message.contains(rule), "{value:?}: {message}");
        }
    }

    #[test]
    fn a_refused_name_is_quoted_but_never_at_length() {
        let message = "x".repeat(9000).parse::<Name>().unwrap_err().to_string();
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn hostnames_follow_the_rules_of_dns() {
        let longest = "a".repeat(253);
        for value in ["a", "A-1.b", "0", "web-1.example.com", &longest] {
            assert_eq!(value.parse::<Hostname>().unwrap().as_str(), value);
        }
        let too_long = "a".repeat(254);
        for value in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a-.b", "a_b", &too_long]
        {
            assert!(value.parse::<Hostname>().is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_bad_value_in_json_is_refused_with_the_rule() {
        let error = serde_json::from_str::<Hostname>("\"a_b\"").unwrap_err();
        assert!(error.to_string().contains("invalid hostname \"a_b\""));
    }

    #[test]
    fn an_id_is_taken_for_an_id_and_the_rest_for_a_name() {
        assert!(matches!(UUID.parse(), Ok(NameOrId::Id(_))));
        assert!(matches!("db".parse(), Ok(NameOrId::Name(_))));
        assert!("DB".parse::<NameOrId>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_or_id_survives_text_and_json(
            text in "[a-z][a-z0-9-]{0,61}[a-z0-9]",
        ) {
            let Ok(value) = text.parse::<NameOrId>() else {
                return Ok(());
            };
            prop_assert_eq!(&value.to_string().parse::<NameOrId>(), &Ok(value.clone()));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(
                serde_json::from_str::<NameOrId>(&json).unwrap(),
                value
            );
        }

        #[test]
        fn every_name_is_a_hostname(text in ".{0,70}") {
            if text.parse::<Name>().is_ok() {
                prop_assert!(text.parse::<Hostname>().is_ok());
            }
        }
    }
}
