//! The body of a request, read whole before anybody looks at it.

use dropshot::{
    ApiEndpointBodyContentType, Body, ClientErrorStatusCode, HttpError,
    RequestContext, ServerContext,
};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;

use super::admission::{Admission, Room};
use super::handler::begins;

/// How much of a body that is too large is still read, and thrown away: a
/// client that is cut off while it sends does not see why.
const THROWN_AWAY_MAX_BYTES: usize = 4 << 20;

/// A body, and the room that it takes, which is kept for as long as it waits for
/// its request's turn.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Option<Room>,
}

impl Whole {
    fn take(
        &mut self,
        data: &[u8],
        admission: Option<&Admission>,
    ) -> Result<(), HttpError> {
        if let Some(admission) = admission {
            let room = admission.room(data.len())?;
            match &mut self.room {
                Some(kept) => kept.merge(room),
                kept => *kept = Some(room),
            }
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// The request's head, and its body.
///
/// # Errors
///
/// 429: its client asks too often already; 503: too much is held of other
/// bodies; 415: it says to be something else than the operation takes; 413: it is larger
/// than a request may be; 400: it breaks off; 408: it does
/// not come in time.
pub(super) async fn read_whole<C: ServerContext>(
    rqctx: &RequestContext<C>,
    request: Request<Body>,
) -> Result<(Parts, Whole), HttpError> {
    let (within, admission) = begins(rqctx)?;
    let (parts, body) = request.into_parts();
    if let ApiEndpointBodyContentType::Json = rqctx.endpoint.body_content_type {
        check_json(&parts.headers)?;
    }
    let read = read(body, rqctx.request_body_max_bytes(), admission);
    let body = tokio::time::timeout(within, read).await.map_err(|_| {
        HttpError::for_client_error(
            Some("RequestTimeout".to_owned()),
            ClientErrorStatusCode::REQUEST_TIMEOUT,
            format!(
                "the body is too slow: it must be there within {} s",
                within.as_secs()
            ),
        )
    })??;
    Ok((parts, body))
}

async fn read(
    mut body: Body,
    max: usize,
    admission: Option<&Admission>,
) -> Result<Whole, HttpError> {
    let mut kept = Ok(Whole::default());
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            HttpError::for_bad_request(
                Some("InvalidRequest".to_owned()),
                format!("the body breaks off: {error}"),
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size <= max {
            // The rest of one that found no room is thrown away, too.
            kept = kept.and_then(|mut kept: Whole| {
                kept.take(&data, admission).map(|()| kept)
            });
        } else if size - max > THROWN_AWAY_MAX_BYTES {
            break;
        }
    }
    if size > max {
        return Err(HttpError::for_client_error(
            Some("PayloadTooLarge".to_owned()),
            ClientErrorStatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is too large: at most {max} bytes are taken"),
        ));
    }
    kept
}

/// What does not say what it is, is taken for JSON.
fn check_json(headers: &HeaderMap) -> Result<(), HttpError> {
    let Some(said) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = said.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if is_json(&kind.to_ascii_lowercase()) {
        return Ok(());
    }
    Err(HttpError::for_client_error(
        Some("UnsupportedMediaType".to_owned()),
        ClientErrorStatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!(
            "a body of content type {said:?} is not taken: send \
             \"application/json\", or no content type"
        ),
    ))
}

fn is_json(kind: &str) -> bool {
    let Some(kind) = kind.strip_prefix("application/") else { return false };
    kind == "json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Limits;

    #[test]
    fn what_is_json_or_says_nothing_is_taken() {
        assert!(check_json(&HeaderMap::new()).is_ok());
        for (kind, taken) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonp", false),
            ("json", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(kind);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
            assert_eq!(check_json(&headers).is_ok(), taken, "{kind}");
        }
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_bound() {
        let body = |n| Body::from(vec![b'x'; n]);
        assert_eq!(
            read(body(8), 8, None).await.expect("as large as may be").bytes,
            [b'x'; 8]
        );
        let refusal = read(body(9), 8, None).await.expect_err("one byte more");
        assert_eq!(refusal.status_code.as_status().as_u16(), 413);
        assert!(read(body(9 << 20), 8, None).await.is_err());
    }
    #[tokio::test]
    async fn a_body_has_room_until_it_is_dropped_and_else_is_refused() {
        let limits = Limits { bodies_bytes: 12, ..Limits::default() };
        let admission = Admission::new(2, limits);
        let read = || read(Body::from("12345678"), 8, Some(&admission));
        let first = read().await.expect("there is room");
        let refusal = read().await.expect_err("there is none");
        assert_eq!(refusal.status_code.as_status().as_u16(), 503);
        drop(first);
        read().await.expect("there is room again");
    }
}
