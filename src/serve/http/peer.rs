//! The peer of a connection: refuses processes that afk started itself, and records each request that a
//! route refuses for want of rights.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::{ApiRefusal, ApiState};
use crate::runtime::Handle;
use crate::runtime::refusals::RefusalKind;
use crate::serve::own_process;

/// The peer of one connection; its requests share it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    address: Option<SocketAddr>,
    /// Our own address on this connection.
    local: Option<SocketAddr>,
    /// Whether it is a process below afk, once a request has asked.
    is_own: Arc<OnceCell<bool>>,
}

impl Peer {
    pub(super) fn new(stream: &TcpStream) -> Self {
        let (address, local) = (stream.peer_addr().ok(), stream.local_addr().ok());
        Self { address, local, is_own: Arc::default() }
    }

    /// Whether the peer is a process of afk's own. A peer without an address counts as one: it is gone.
    async fn is_own(&self, handle: &Handle) -> bool {
        let (Some(address), Some(local)) = (self.address, self.local) else { return true };
        *self.is_own.get_or_init(|| own_process::is_peer(handle, address, local)).await
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("a closed connection"),
        }
    }
}

/// Serves a request, unless its peer is a process of afk's own.
pub(super) async fn guard(
    State(state): State<ApiState>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let refusals = state.handle.refusals();
    let what = format!("{} {}", request.method(), request.uri().path());
    if peer.is_own(&state.handle).await {
        refusals.record(RefusalKind::OwnProcess, &peer, &what);
        let message = "afk serves no process that it has started itself";
        return ApiRefusal::new(StatusCode::FORBIDDEN, "own-process", message).into_response();
    }
    let caller = state.tokens.caller(request.headers());
    let response = next.run(request).await;
    let kind = match response.status() {
        StatusCode::UNAUTHORIZED => RefusalKind::HttpUnauthenticated,
        StatusCode::FORBIDDEN => RefusalKind::HttpForbidden,
        _ => return response,
    };
    let who =
        caller.map_or_else(|| peer.to_string(), |caller| format!("{} ({peer})", caller.actor));
    refusals.record(kind, &who, &what);
    response
}
