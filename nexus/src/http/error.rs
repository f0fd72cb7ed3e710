//! The one place that turns an error into an HTTP answer.

use dropshot::{ClientErrorStatusCode, ErrorStatusCode, HttpError};
use http::HeaderValue;
use http::header::RETRY_AFTER;
use slog::{Logger, error, warn};
use uuid::Uuid;

use crate::error::{Error, chain};

/// The codes of the external API's refusals, each with its status and with what
/// it says to a program. `docs/api.md` has all of them, too.
pub(super) const CODES: [(u16, &str, &str); 24] = [
    (400, "InvalidRequest", "the request makes no sense, now or ever"),
    (400, "InvalidValue", "one value is not acceptable, which is named first"),
    (400, "ObjectAlreadyExists", "the name is taken"),
    (400, "authorization_pending", "nobody has confirmed the device yet"),
    (400, "slow_down", "the same, and the device asks too often"),
    (400, "access_denied", "a user has kept the device out"),
    (400, "expired_token", "the device has waited for too long"),
    (400, "invalid_grant", "no such device, or it was given its token before"),
    (400, "unsupported_grant_type", "devices are let in in one way only"),
    (401, "Unauthorized", "no credentials, or none that are valid"),
    (403, "Forbidden", "the caller may not"),
    (403, "CrossSite", "a browser asks for it from another site's page"),
    (404, "ObjectNotFound", "there is none, or it is of another silo"),
    (405, "MethodNotAllowed", "the path is not for this method"),
    (408, "RequestTimeout", "the body came too slowly"),
    (409, "Conflict", "it contradicts what is going on"),
    (413, "PayloadTooLarge", "the body is larger than is taken"),
    (414, "UriTooLong", "the URI is longer than is taken"),
    (415, "UnsupportedMediaType", "the body is no JSON"),
    (429, "TooManyRequests", "too often; `Retry-After` says how long to wait"),
    (431, "RequestHeaderFieldsTooLarge", "the headers are too large"),
    (500, "Internal", "our fault; the message names an incident"),
    (501, "NotImplemented", "Oxide's API has it, and this server does not"),
    (503, "ServiceNotAvailable", "for now; `Retry-After` says how long"),
];

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        use ClientErrorStatusCode as Status;
        match error {
            Error::Unauthenticated => {
                refused(Status::UNAUTHORIZED, "Unauthorized", &error)
            }
            Error::WrongPassword => {
                refused(Status::UNAUTHORIZED, "Unauthorized", &error)
            }
            Error::TooManyRequests { retry_after_secs, .. } => {
                too_many(&error, retry_after_secs)
            }
            Error::Forbidden { .. } => {
                refused(Status::FORBIDDEN, "Forbidden", &error)
            }
            Error::CrossSite => refused(Status::FORBIDDEN, "CrossSite", &error),
            Error::NotFound { .. } | Error::NotThere { .. } => {
                refused(Status::NOT_FOUND, "ObjectNotFound", &error)
            }
            Error::AlreadyExists { .. } => {
                refused(Status::BAD_REQUEST, "ObjectAlreadyExists", &error)
            }
            Error::InvalidRequest { .. } => {
                refused(Status::BAD_REQUEST, "InvalidRequest", &error)
            }
            Error::InvalidValue { .. } => {
                refused(Status::BAD_REQUEST, "InvalidValue", &error)
            }
            Error::Conflict { .. } => {
                refused(Status::CONFLICT, "Conflict", &error)
            }
            Error::NotImplemented { .. } => not_implemented(&error),
            Error::Unavailable { retry_after_secs, .. } => {
                unavailable(&error, retry_after_secs)
            }
            Error::Internal { .. } => internal(&error),
        }
    }
}

/// Logs why an answer is one, if it does not say so itself.
pub(super) fn log_why(answer: &HttpError, log: &Logger) {
    let why = &answer.internal_message;
    if *why == answer.external_message {
        return;
    }
    match answer.status_code {
        ErrorStatusCode::INTERNAL_SERVER_ERROR => {
            error!(log, "a request failed inside"; "why" => why);
        }
        _ => warn!(log, "a request was refused"; "why" => why),
    }
}

/// The caller's doing, so the caller is told all of it.
fn refused(
    status: ClientErrorStatusCode,
    code: &str,
    error: &Error,
) -> HttpError {
    HttpError::for_client_error(
        Some(code.to_owned()),
        status,
        error.to_string(),
    )
}

/// The caller's doing, and told when to come back.
fn too_many(error: &Error, retry_after_secs: u32) -> HttpError {
    let status = ClientErrorStatusCode::TOO_MANY_REQUESTS;
    let mut answer = refused(status, "TooManyRequests", error);
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(retry_after_secs));
    answer
}

/// Nobody's doing: the caller is told, and nobody need be woken.
fn not_implemented(error: &Error) -> HttpError {
    HttpError {
        status_code: ErrorStatusCode::NOT_IMPLEMENTED,
        error_code: Some("NotImplemented".to_owned()),
        external_message: error.to_string(),
        internal_message: error.to_string(),
        headers: None,
    }
}

/// Not the caller's doing: told what, and when to come back; the log has why.
fn unavailable(error: &Error, retry_after_secs: u32) -> HttpError {
    let mut answer = HttpError {
        status_code: ErrorStatusCode::SERVICE_UNAVAILABLE,
        error_code: Some("ServiceNotAvailable".to_owned()),
        external_message: error.to_string(),
        internal_message: chain(error),
        headers: None,
    };
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(retry_after_secs));
    answer
}

/// Our own fault: the caller gets an incident id, and the log has the rest
/// under the same id.
fn internal(error: &Error) -> HttpError {
    let incident = Uuid::new_v4();
    HttpError {
        status_code: ErrorStatusCode::INTERNAL_SERVER_ERROR,
        error_code: Some("Internal".to_owned()),
        external_message: format!("internal error; incident {incident}"),
        internal_message: format!("incident {incident}: {}", chain(error)),
        headers: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let id = || text("id \"x\"");
        for (error, status, code) in [
            (Error::Unauthenticated, 401, "Unauthorized"),
            (Error::CrossSite, 403, "CrossSite"),
            (
                Error::Forbidden { action: "list sleds", needs: "viewer" },
                403,
                "Forbidden",
            ),
            (
                Error::NotFound { kind: "instance", lookup: id() },
                404,
                "ObjectNotFound",
            ),
            (
                Error::AlreadyExists { kind: "project", name: text("p") },
                400,
                "ObjectAlreadyExists",
            ),
            (
                Error::InvalidRequest { message: text("m") },
                400,
                "InvalidRequest",
            ),
            (Error::invalid_value("ncpus", "m"), 400, "InvalidValue"),
            (Error::NotThere { message: text("m") }, 404, "ObjectNotFound"),
            (Error::Conflict { message: text("m") }, 409, "Conflict"),
            (
                Error::NotImplemented { operation: text("vpc_create") },
                501,
                "NotImplemented",
            ),
        ] {
            let message = error.to_string();
            let answer = HttpError::from(error);
            assert_eq!(answer.status_code.as_status().as_u16(), status);
            assert_eq!(answer.error_code.as_deref(), Some(code));
            assert_eq!(answer.external_message, message);
            let known = CODES.iter().any(|c| (c.0, c.1) == (status, code));
            assert!(known, "{code} is not documented");
            assert!(answer.headers.is_none());
        }
    }

    #[test]
    fn the_table_of_codes_that_users_read_is_this_one() {
        let api = include_str!("../../../docs/api.md");
        let (_, table) =
            api.split_once("| status | `error_code` |").expect("it");
        let (table, _) = table.split_once("\n\n").expect("its end");
        let rows = table.lines().filter_map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let status = cells.next()?.parse::<u16>().ok()?;
            Some((status, cells.next()?.trim_matches('`')))
        });
        let told: BTreeSet<_> = rows.collect();
        let all: BTreeSet<_> = CODES.iter().map(|it| (it.0, it.1)).collect();
        assert_eq!(told, all);
    }

    #[test]
    fn what_is_unavailable_says_when_to_come_back_and_not_why() {
        let answer = HttpError::from(Error::Unavailable {
            message: text("the database cannot be reached"),
            retry_after_secs: 7,
            source: Some("10.0.0.1 refused".into()),
        });
        assert_eq!(answer.status_code, ErrorStatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.error_code.as_deref(), Some("ServiceNotAvailable"));
        assert_eq!(answer.external_message, "the database cannot be reached");
        assert!(answer.internal_message.contains("10.0.0.1 refused"));
        let headers = answer.headers.expect("Retry-After");
        assert_eq!(headers.get(RETRY_AFTER), Some(&HeaderValue::from(7)));
    }

    #[test]
    fn an_internal_error_shows_an_incident_that_the_log_explains() {
        let answer = HttpError::from(Error::internal("SELECT secret"));
        assert_eq!(answer.status_code, ErrorStatusCode::INTERNAL_SERVER_ERROR);
        assert!(!answer.external_message.contains("SELECT"));
        assert!(answer.internal_message.contains("SELECT secret"));
        let incident =
            answer.external_message.rsplit(' ').next().expect("an id");
        assert!(answer.internal_message.contains(incident));
    }
}
