//! Reads the rest of a request's body that no handler has read. Otherwise the connection would end
//! with the answer, and a client that still sends would often lose the answer with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use tokio::time::timeout;

use crate::lock::LockExt;

/// The most bytes that are read and thrown away: a client that sends more loses its connection.
const MOST: usize = 32 * 1024 * 1024;
/// The longest time for them.
const LONGEST: Duration = Duration::from_secs(10);

/// The rest of a body; none once it has been read to its end, or has failed.
type Rest = Arc<Mutex<Option<BodyDataStream>>>;

/// The body that a handler gets. The part that it doesn't read stays in [`Rest`].
struct SharedBody(Rest);

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut rest = self.0.locked();
        let Some(body) = rest.as_mut() else { return Poll::Ready(None) };
        let polled = body.poll_next_unpin(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            *rest = None;
        }
        polled
    }
}

/// Serves a request, and reads the rest of its body before the answer goes out. If that takes too long,
/// the answer announces the end of the connection.
pub(super) async fn rest_of_body(request: Request, next: Next) -> Response {
    if !has_body(request.headers()) {
        return next.run(request).await;
    }
    let waits = request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let rest: Rest = Arc::new(Mutex::new(Some(body.into_data_stream())));
    let request = Request::from_parts(parts, Body::from_stream(SharedBody(rest.clone())));
    let mut response = next.run(request).await;
    let left = rest.locked().take();
    let is_read = match left {
        None => true,
        // A client that waits for `100 Continue` sends nothing without it.
        Some(_) if waits => false,
        Some(body) => timeout(LONGEST, is_drained(body)).await.unwrap_or(false),
    };
    if !is_read {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Reads a body to its end; false if it fails or is too long.
async fn is_drained(mut body: BodyDataStream) -> bool {
    let mut read = 0;
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return false };
        read += piece.len();
        if read > MOST {
            return false;
        }
    }
    true
}
