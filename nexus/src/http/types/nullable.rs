//! A value that may be null and must not be left out.

use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Null, or a value. Unlike an `Option` it must be there: whoever replaces an
/// object has to say of each such property what it shall be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Nullable<T>(pub Option<T>);

// By way of a `Value`, since serde takes an `Option` that is missing for null.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Nullable<T> {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        serde_json::from_value(value).map(Self).map_err(Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for Nullable<T> {
    fn schema_name() -> String {
        format!("Nullable{}", T::schema_name())
    }

    fn is_referenceable() -> bool {
        false
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Body {
        size: Nullable<u8>,
    }

    fn parse(json: &str) -> Result<Option<u8>, String> {
        serde_json::from_str::<Body>(json)
            .map(|body| body.size.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn null_is_taken_and_absence_is_not() {
        assert_eq!(parse(r#"{"size": 1}"#), Ok(Some(1)));
        assert_eq!(parse(r#"{"size": null}"#), Ok(None));
        let missing = parse("{}").expect_err("size is missing");
        assert!(missing.contains("missing field `size`"), "{missing}");
    }
}
