//! The HTTP API: on loopback by default, with a bearer token per caller.
//!
//! ```text
//! connection ─▶ listener: bounds ─▶ request ─▶ drain: the body is read, whatever the answer
//! request ─▶ refusal: a body for every error ─▶ peer: no process of afk's own ─▶ routes (the table) ─▶ tokens: Caller { actor, role } ─▶ handler
//!   handler of a query   ─▶ the newest snapshot, the journal or a transcript ─▶ JSON
//!   handler of a command ─▶ Handle::command ─▶ the core decides ─▶ JSON of the reply
//! ```
//!
//! Only the token decides who a caller is; no other header does. The core decides what the caller's
//! role permits. `service` has the routes of the agent service that afk replaces, with the shapes of
//! that service.

mod commands;
mod drain;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod listener;
mod metrics;
mod openapi;
mod peer;
mod probes;
mod refusal;
mod routes;
mod runs;
mod service;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::runtime::{Handle, Snapshot};
use listener::HttpBounds;
use refusal::ApiRefusal;
use tokens::CallerTokens;

/// The longest silence of a stream of server-sent events. Proxies give up after 60 s by default.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// An answer of server-sent events. A proxy must pass each event on at once and not collect them.
fn unbuffered(events: impl IntoResponse) -> Response {
    let mut response = events.into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The state that every handler receives.
#[derive(Debug, Clone)]
struct ApiState {
    handle: Handle,
    tokens: Arc<CallerTokens>,
    sessions: Arc<service::Sessions>,
}

impl ApiState {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.handle.snapshots.borrow().clone()
    }
}

/// Listens until the runtime ends. Returns the bound address, and a task whose end frees the port.
///
/// # Errors
/// Returns a line for a person if a token can't be resolved or the port can't be bound.
pub async fn start(
    handle: &Handle,
    config: &Config,
) -> Result<(SocketAddr, JoinHandle<()>), String> {
    let http = &config.http;
    let tokens = CallerTokens::follow(config, handle).await?;
    let listener = TcpListener::bind(http.listen)
        .await
        .map_err(|error| format!("http on {}: {error}", http.listen))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let sessions = Arc::default();
    let app = routes::router(ApiState { handle: handle.clone(), tokens, sessions });
    let handle = handle.clone();
    let task = tokio::spawn(async move {
        let closing = CancellationToken::new();
        tokio::select! {
            () = listener::accept(listener, app, HttpBounds::DEFAULT, closing.clone()) => {}
            // Drops the listener, so that the next runtime finds the port free.
            () = handle.ended() => {}
        }
        closing.cancel();
    });
    Ok((bound, task))
}
