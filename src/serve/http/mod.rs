//! The HTTP API: loopback by default, a bearer token a caller. A token gives a name and a role;
//! no header but it says who somebody is. What a caller may do is decided by the core.

mod commands;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::runtime::Handle;
pub use tokens::Tokens;

/// The largest body that is read, in bytes.
const BODY: usize = 1024 * 1024;

/// What every route has.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    handle: Handle,
    tokens: Arc<Tokens>,
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

/// Listens until the process ends.
///
/// # Errors
/// A line for a person.
pub async fn start(handle: &Handle, config: &Config) -> Result<SocketAddr, String> {
    let http = &config.http;
    let tokens = Arc::new(Tokens::new(http, handle).await?);
    let listener = TcpListener::bind(http.listen)
        .await
        .map_err(|error| format!("http on {}: {error}", http.listen))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let app = router(Shared { handle: handle.clone(), tokens });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http has ended");
        }
    });
    Ok(bound)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/fleet", get(commands::fleet))
        .route("/v1/breakglass", get(commands::breakglass))
        .route("/v1/commands", post(commands::command))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(shared)
}
