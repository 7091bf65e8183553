//! The errors of the API. Every answer of 400 or more has a body of JSON, whatever refused the request:
//! a handler, an extractor, or the router for want of a route.
//!
//! ```text
//! ApiRefusal       {"error": {"kind", "message"}}                       afk's own routes
//! ServiceRefusal   {"detail": …} or {"error": …, "detail": …}           the replaced service's routes
//! OpenAiRefusal    {"error": {"message", "type", "code", "param"}, …}   chats and models
//! with_body        {"error": {"kind", "message", "type", "code"}, "detail"}   every answer without a body
//! ```

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::core::model::untrusted::clean_line;

/// The longest text of an error that is passed on, in bytes.
const LONGEST: usize = 64 * 1024;

/// The error of every route but those of the service:
/// `{"error": {"kind": …, "message": …}}`.
#[derive(Debug)]
pub(super) struct ApiRefusal {
    status: StatusCode,
    /// A stable word for programs, such as `no-run`.
    kind: &'static str,
    message: String,
}

impl ApiRefusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.kind, "message": self.message}});
        (self.status, axum::Json(body)).into_response()
    }
}

/// The type of an error in the words of `OpenAI`'s API, by the status of the answer.
pub(super) const fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Gives every error a body of JSON that clients of `OpenAI`'s API show, too.
pub(super) async fn with_body(request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), clean_line(request.uri().path()));
    let response = next.run(request).await;
    let status = response.status();
    let has_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !(status.is_client_error() || status.is_server_error()) || has_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, LONGEST).await.unwrap_or_default();
    let text = clean_line(&String::from_utf8_lossy(&text));
    let (kind, detail) = match status {
        StatusCode::NOT_FOUND => ("no-route", "Not Found"),
        StatusCode::METHOD_NOT_ALLOWED => ("no-method", "Method Not Allowed"),
        _ => ("request", status.canonical_reason().unwrap_or("Error")),
    };
    let message = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            format!("there is no {what}; /openapi.json lists the routes")
        }
        _ if text.is_empty() => detail.to_owned(),
        _ => text,
    };
    let code = kind.replace('-', "_");
    let error = json!({
        "kind": kind, "message": message, "type": openai_type(status), "code": code, "param": null,
    });
    let body = json!({"error": error, "detail": detail}).to_string();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}
