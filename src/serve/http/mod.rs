//! The HTTP API: loopback by default, a bearer token a caller. A token gives a name and a role;
//! no header but it says who somebody is. What a caller may do is decided by the core.

mod commands;
mod events;
mod metrics;
mod routes;
mod runs;
mod service;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::runtime::Handle;
pub use tokens::Tokens;

/// A stream says something at least this often.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(20);

/// What every route has.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    handle: Handle,
    tokens: Arc<Tokens>,
    sessions: Arc<service::Sessions>,
}

/// Why a request was not answered; one shape for all of our own routes:
/// `{"error": {"kind": …, "message": …}}`.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.kind, "message": self.message}});
        (self.status, axum::Json(body)).into_response()
    }
}

/// Listens until the runtime ends. Says where, and gives the task whose end frees the port.
///
/// # Errors
/// A line for a person.
pub async fn start(
    handle: &Handle,
    config: &Config,
) -> Result<(SocketAddr, JoinHandle<()>), String> {
    let http = &config.http;
    let bearer = config.service.as_ref().and_then(|service| service.bearer.as_ref());
    let tokens = Arc::new(Tokens::new(http, bearer, handle).await?);
    let listener = TcpListener::bind(http.listen)
        .await
        .map_err(|error| format!("http on {}: {error}", http.listen))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let sessions = Arc::default();
    let app = routes::router(Shared { handle: handle.clone(), tokens, sessions });
    let handle = handle.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            served = axum::serve(listener, app).into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "http has ended");
                }
            }
            // Its port is free for whoever comes next.
            () = handle.ended() => {}
        }
    });
    Ok((bound, task))
}
