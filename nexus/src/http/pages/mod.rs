//! Pages for people: logging in, letting a device in, and the web console's
//! files. They need no script.
//!
//! They are no operations of the API, so they are in no document, and are
//! registered here.

mod console;
mod device;
mod html;
mod login;

use dropshot::{
    ApiDescription, ApiEndpoint, ApiEndpointVersions, Body, CONTENT_TYPE_JSON,
    HttpError,
};
use http::{Method, Response};

use super::device::VERIFY;
use super::handler::ApiContext;
use crate::error::BoxError;

/// What is sent to a browser.
type Page = Result<Response<Body>, HttpError>;

const FORM: &str = "application/x-www-form-urlencoded";

/// Adds the pages to the API.
///
/// # Errors
///
/// They contradict it, which tests rule out.
pub(super) fn register(
    api: &mut ApiDescription<ApiContext>,
) -> Result<(), BoxError> {
    macro_rules! page {
        ($method:ident $path:expr, $name:expr, $kind:expr, $handler:path) => {
            let every = ApiEndpointVersions::All;
            let (name, method) = (String::from($name), Method::$method);
            api.register(
                ApiEndpoint::new(name, $handler, method, $kind, $path, every)
                    .visible(false),
            )?;
        };
    }
    let silo = "/login/{silo_name}/local";
    page!(GET "/login", "login_silo_page", CONTENT_TYPE_JSON, login::which);
    page!(GET silo, "login_local_page", CONTENT_TYPE_JSON, login::show);
    page!(POST silo, "login_local_form", FORM, login::submit);
    page!(GET VERIFY, "device_verify_page", CONTENT_TYPE_JSON, device::show);
    page!(POST VERIFY, "device_verify_form", FORM, device::submit);
    let path = device::SUCCESS;
    page!(GET path, "device_success_page", CONTENT_TYPE_JSON, device::success);
    page!(GET "/", "console_root", CONTENT_TYPE_JSON, console::root);
    let path = "/assets/{path:.*}";
    page!(GET path, "console_asset", CONTENT_TYPE_JSON, console::asset);
    for part in console::PARTS {
        let path = format!("/{part}/{{path:.*}}");
        let name = format!("console_{}", part.replace('-', "_"));
        page!(GET & path, name, CONTENT_TYPE_JSON, console::page);
    }
    Ok(())
}

/// A path of ours, if it is one and nothing else: what a browser is sent to
/// after a login must not be another's, whoever wrote the link.
fn local(path: Option<&str>) -> &str {
    // "//host" and "/\host" are other servers, to browsers.
    let is_local = |path: &&str| {
        let mut bytes = path.bytes();
        bytes.next() == Some(b'/')
            && !matches!(bytes.next(), Some(b'/' | b'\\'))
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    path.filter(is_local).unwrap_or("/")
}

/// A text as a parameter of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_ours_is_gone_back_to() {
        for path in ["/", "/projects/x?a=b&c=%2F#d", "/device/verify"] {
            assert_eq!(local(Some(path)), path);
        }
        for path in [
            "",
            "projects",
            "//evil.example",
            "/\\evil.example",
            "/a\\b",
            "https://evil.example/",
            "javascript:alert(1)",
            "/a b",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x",
            "/é",
        ] {
            assert_eq!(local(Some(path)), "/", "{path:?}");
        }
        assert_eq!(local(None), "/");
    }

    #[test]
    fn a_parameter_is_one_whatever_is_in_it() {
        assert_eq!(encoded("/a?b=c&d é"), "%2Fa%3Fb%3Dc%26d%20%C3%A9");
    }
}
