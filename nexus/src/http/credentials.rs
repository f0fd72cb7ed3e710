//! What a request shows of who asks: read, and not believed yet.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use super::rate::Credential;
use crate::app::digest;
use crate::error::Error;

/// What a request shows of who asks.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    Session(&'a str),
    Token(&'a str),
}

impl Shown<'_> {
    /// By which it is counted.
    pub(super) fn digest(&self) -> Credential {
        match self {
            Shown::Session(text) | Shown::Token(text) => digest(text),
        }
    }
}

/// A token or, if it shows none, the cookie of a session.
pub(super) fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Error> {
    match session_cookie(headers) {
        Some(cookie) if !headers.contains_key(AUTHORIZATION) => {
            Ok(Shown::Session(cookie))
        }
        _ => Ok(Shown::Token(bearer_token(headers)?)),
    }
}

/// The secret of a console session: the first cookie of that name.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == "session")
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// What `Authorization: Bearer …` bears.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<&str, Error> {
    let (scheme, token) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .ok_or(Error::Unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::Unauthenticated);
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let session = |cookies: &[&'static str]| {
            let values = cookies.iter().map(|c| HeaderValue::from_static(c));
            let headers: HeaderMap = values.map(|v| (COOKIE, v)).collect();
            session_cookie(&headers).map(str::to_owned)
        };
        for (cookies, found) in [
            (&["session=abc"][..], Some("abc")),
            (&["a=b; session=abc; c=d"], Some("abc")),
            (&["a=b", "c=d;session=abc"], Some("abc")),
            (&["session=one; session=two"], Some("one")),
            (&["session=a=b"], Some("a=b")),
            (&["session="], None),
            (&["xsession=abc; Session=abc"], None),
            (&["session"], None),
            (&[";;=;"], None),
            (&[], None),
        ] {
            assert_eq!(session(cookies).as_deref(), found, "{cookies:?}");
        }
    }

    fn token(authorization: &'static str) -> Option<String> {
        let value = HeaderValue::from_static(authorization);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        bearer_token(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bearer"), None);
        assert_eq!(token(""), None);
        assert!(bearer_token(&HeaderMap::new()).is_err());
    }
}
