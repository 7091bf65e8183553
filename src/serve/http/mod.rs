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

/// Answers `/health` with who leads until it is aborted: for one that follows.
///
/// # Errors
/// A line for a person.
pub async fn standby(
    listen: SocketAddr,
    leader: tokio::sync::watch::Receiver<String>,
) -> Result<tokio::task::JoinHandle<()>, String> {
    let listener = TcpListener::bind(listen);
    let listener = listener.await.map_err(|error| format!("http on {listen}: {error}"))?;
    let health = async move || {
        let body = json!({"status": "standby", "leader": leader.borrow().clone()});
        (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body))
    };
    let app = axum::Router::new().route("/health", axum::routing::get(health));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http has ended");
        }
    }))
}

/// Listens until the process ends.
///
/// # Errors
/// A line for a person.
pub async fn start(handle: &Handle, config: &Config) -> Result<SocketAddr, String> {
    let http = &config.http;
    let bearer = config.service.as_ref().and_then(|service| service.bearer.as_ref());
    let tokens = Arc::new(Tokens::new(http, bearer, handle).await?);
    let listener = TcpListener::bind(http.listen)
        .await
        .map_err(|error| format!("http on {}: {error}", http.listen))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let sessions = Arc::default();
    let app = routes::router(Shared { handle: handle.clone(), tokens, sessions });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http has ended");
        }
    });
    Ok(bound)
}
