//! Answers of the JSON API: replies as they are on the wire, and errors as code and message.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use roomcast_types::{Code, Fault};
use serde::Serialize;

/// What a handler answers.
pub struct Reply<T>(pub Result<T, Fault>);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match self.0.map(|reply| serde_json::to_vec(&reply)) {
            Ok(Ok(body)) => (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], body).into_response(),
            Ok(Err(error)) => {
                refusal(&Fault::new(Code::Internal, format!("cannot write the reply: {error}")))
            }
            Err(fault) => refusal(&fault),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// An error as its HTTP status and body.
pub fn refusal(fault: &Fault) -> Response {
    let retry_after_ms = fault.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let fields = ErrorFields { code: fault.code.as_str(), message: &fault.message, retry_after_ms };
    let body = serde_json::to_vec(&ErrorBody { error: fields }).unwrap_or_default();
    let status = StatusCode::from_u16(fault.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
    if let Some(millis) = retry_after_ms {
        // Whole seconds (RFC 9110, section 10.2.3), rounded up.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
    }
    response
}
