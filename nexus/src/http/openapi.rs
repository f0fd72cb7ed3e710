//! The OpenAPI documents of all APIs, as they are checked in.

use std::error::Error;

use dropshot::{ApiDescription, StubContext};
use semver::Version;
use serde_json::Value;

use super::api::external_api_mod;
use super::error::CODES;
use super::internal_api::internal_api_mod;
use super::join_api::join_api_mod;

/// The document of the external API.
///
/// *Errors*: the trait contradicts itself, which a test rules out.
pub fn external_openapi() -> Result<String, Box<dyn Error>> {
    let api = external_api_mod::stub_api_description()?;
    let mut document = document(api, "Nexus")?;
    let code = "/components/schemas/Error/properties/error_code";
    if let Some(Value::Object(code)) = document.pointer_mut(code) {
        let mut said = "What a program may go by:".to_owned();
        for (status, code, meaning) in CODES {
            said.push_str(&format!("\n- `{code}` ({status}): {meaning}"));
        }
        code.insert("description".to_owned(), said.into());
    }
    text(&document)
}

/// The document of the internal API.
///
/// *Errors*: the trait contradicts itself, which a test rules out.
pub fn internal_openapi() -> Result<String, Box<dyn Error>> {
    let api = internal_api_mod::stub_api_description()?;
    text(&document(api, "Nexus internal")?)
}

/// The document of the join API.
///
/// *Errors*: the trait contradicts itself, which a test rules out.
pub fn join_openapi() -> Result<String, Box<dyn Error>> {
    let api = join_api_mod::stub_api_description()?;
    text(&document(api, "Nexus join")?)
}

fn document(
    api: ApiDescription<StubContext>,
    title: &str,
) -> Result<Value, Box<dyn Error>> {
    Ok(api.openapi(title, Version::new(1, 0, 0)).json()?)
}

fn text(document: &Value) -> Result<String, Box<dyn Error>> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Compares a document with the file that is checked in, or rewrites the
    /// file if the environment has `EXPECTORATE=overwrite`.
    fn check(file: &str, document: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("EXPECTORATE").is_some_and(|v| v == "overwrite") {
            std::fs::write(&path, document).expect("the file is writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == document,
            "nexus/{file} does not say what the API is; if the API is right, \
             EXPECTORATE=overwrite cargo test -p nexus openapi",
        );
    }

    #[test]
    fn the_external_document_is_the_one_checked_in() {
        let document = external_openapi().expect("a sound API");
        check("openapi.json", &document);
        for (_, code, _) in CODES {
            assert!(document.contains(&format!("- `{code}` (")), "{code}");
        }
    }

    #[test]
    fn the_internal_document_is_the_one_checked_in() {
        let document = internal_openapi().expect("a sound API");
        check("openapi-internal.json", &document);
    }

    #[test]
    fn the_join_document_is_the_one_checked_in() {
        let document = join_openapi().expect("a sound API");
        check("openapi-join.json", &document);
    }
}
