//! What is wrong with a body that may hold a secret, said without any of it: a
//! refusal goes into the audit log and the server's, and whoever mistakes one
//! field for another sends a password where it would be repeated.

use dropshot::HttpError;

/// Operations whose bodies may.
const SECRET: [&str; 6] = [
    "device_access_token",
    "device_auth_confirm",
    "local_idp_user_create",
    "local_idp_user_set_password",
    "login_local",
    "login_local_form",
];

/// All that is repeated: what the fields of these bodies are called.
const FIELDS: [&str; 9] = [
    "client_id",
    "device_code",
    "external_id",
    "grant_type",
    "mode",
    "password",
    "user_code",
    "username",
    "value",
];

/// What dropshot has refused of an operation's body, as it may be told.
pub(super) fn withheld(operation: &str, mut refusal: HttpError) -> HttpError {
    // It repeats no more than two of the types that it knows.
    let of_type = refusal.external_message.starts_with("expected content type");
    if !SECRET.contains(&operation) || of_type {
        return refusal;
    }
    let what = match field(&refusal.external_message) {
        Some(field) => format!("\"{field}\" in the body is not"),
        None => "the body is not".to_owned(),
    };
    let message = format!(
        "{what} what this operation takes: see its description. The value is \
         not repeated, since it may be a secret"
    );
    refusal.internal_message.clone_from(&message);
    refusal.external_message = message;
    refusal
}

/// The field that a message of dropshot's is about: "what: field: why", or
/// "what: missing field `field` …".
fn field(message: &str) -> Option<&'static str> {
    let (_, about) = message.split_once(": ")?;
    let missing = about.strip_prefix("missing field `");
    let named = match missing {
        Some(missing) => missing.split_once('`')?.0,
        None => about.split_once(": ")?.0,
    };
    FIELDS.into_iter().find(|field| *field == named)
}

#[cfg(test)]
mod tests {
    use super::super::unserved::external_api;
    use super::*;

    fn told(operation: &str, message: &str) -> String {
        let refusal = HttpError::for_bad_request(None, message.to_owned());
        let refusal = withheld(operation, refusal);
        assert_eq!(refusal.external_message, refusal.internal_message);
        refusal.external_message
    }

    #[test]
    fn the_operations_are_there() {
        let router = external_api().expect("a sound API").into_router();
        for secret in SECRET {
            let mut all = router.endpoints(None);
            let there = all.any(|(_, _, it)| it.operation_id == secret);
            assert!(there, "{secret}");
        }
    }

    #[test]
    fn the_field_is_said_and_no_value() {
        let json = "unable to parse JSON body: ";
        for (why, said) in [
            ("invalid type: string \"hunter22\"", "the body"),
            ("username: \"hunter22\" is no name", "\"username\""),
            ("missing field `password` at line 1", "\"password\""),
            ("hunter22: unknown field", "the body"),
            ("missing field `hunter22`", "the body"),
        ] {
            let told = told("login_local", &format!("{json}{why}"));
            assert!(told.starts_with(said), "{told}");
            assert!(!told.contains("hunter22"), "{told}");
        }
        let why = format!("{json}name: \"x\" is no name");
        assert_eq!(told("project_create", &why), why);
    }
}
