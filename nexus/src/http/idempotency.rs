//! Requests that are done once: how a repeat is known, and what it is answered.

use dropshot::HttpError;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::extract::Header;
use super::handler::Admitted;
use super::types::IdempotencyHeaders;
use crate::app::{App, Once};
use crate::context::OpContext;
use crate::error::Error;
use db_model::KeyedRequest;

/// More than any scheme of keys that is in use: a UUID has 36, a digest 64.
const KEY_MAX_BYTES: usize = 255;

/// An answer as it is made, or as it was made to the first of several requests.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Repeatable<T> {
    /// It is made now.
    Made(Box<T>),
    /// It was made then.
    Kept(Value),
}

impl<T: JsonSchema> JsonSchema for Repeatable<T> {
    fn schema_name() -> String {
        T::schema_name()
    }

    fn is_referenceable() -> bool {
        false
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// The request with its key, if it has one.
///
/// # Errors
///
/// `InvalidValue`: the key is empty, or too long.
pub(super) fn keyed(
    rqctx: &Admitted,
    opctx: &OpContext,
    headers: Header<IdempotencyHeaders>,
    body: Option<&str>,
) -> Result<Option<KeyedRequest>, Error> {
    let Some(key) = headers.into_inner().idempotency_key else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(Error::invalid_value(
            "idempotency-key",
            format!(
                "{} bytes are {}: it must have 1 to {KEY_MAX_BYTES}",
                key.len(),
                if key.is_empty() { "too few" } else { "too many" },
            ),
        ));
    }
    let uri = rqctx.request.uri();
    Ok(Some(KeyedRequest {
        silo_user_id: opctx.user_id,
        key_hash: hash(&[&key]),
        request_hash: hash(&[
            &rqctx.endpoint.operation_id,
            uri.path(),
            uri.query().unwrap_or_default(),
            body.unwrap_or_default(),
        ]),
    }))
}

/// The answer to a request, from now on that to each repeat of it.
///
/// # Errors
///
/// `Unavailable`: it is done, and the answer could not be kept. A repeat does
/// that.
pub(super) async fn answer<R, T>(
    app: &App,
    request: Option<KeyedRequest>,
    done: Once<R>,
) -> Result<Repeatable<T>, HttpError>
where
    T: From<R> + Serialize,
{
    let view = match done {
        Once::Kept(answer) => return Ok(Repeatable::Kept(answer)),
        Once::Done(row) => T::from(row),
    };
    let Some(request) = request else {
        return Ok(Repeatable::Made(Box::new(view)));
    };
    let view = serde_json::to_value(view).map_err(Error::internal)?;
    Ok(Repeatable::Kept(app.keep_answer(request, view).await?))
}

/// A digest of texts and of where each ends.
fn hash(texts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    let digest = digest.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a body says, whatever the order of its fields and the room between
/// them. None: it is no JSON, so it will be refused.
pub(super) fn canonical(body: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    value.sort_all_objects();
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_say_the_same_are_the_same() {
        let one = canonical(br#"{"a": 1, "b": {"d": [2], "c": null}}"#);
        let same = canonical(b"{\"b\":{\"c\":null,\"d\":[2]},\"a\":1}\n");
        assert_eq!(one, same);
        let other = canonical(br#"{"a": 2, "b": {"d": [2], "c": null}}"#);
        assert_ne!(one, other);
        assert_eq!(canonical(b"{"), None);
    }

    #[test]
    fn where_a_text_ends_counts() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&["a"]).len(), 64);
    }
}
