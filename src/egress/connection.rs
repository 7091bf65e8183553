//! One connection from its request to the end of its tunnel.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::refusals::EgressRefusals;
use super::request::{self, TunnelRequest};
use super::response::{ESTABLISHED, EgressRefusal};
use super::uplink::{self, Uplink};
use super::{EgressLimits, EgressPolicy, tunnel};
use crate::config::network::DestinationHost;

/// The most that a refused caller can send before the connection ends.
const LINGER_BYTES: usize = 256 * 1024;

/// The part that all connections of a proxy share.
pub(super) struct Connections<U> {
    pub(super) policy: EgressPolicy,
    pub(super) limits: EgressLimits,
    pub(super) uplink: U,
    pub(super) refusals: Arc<EgressRefusals>,
}

impl<U: Uplink> Connections<U> {
    /// Serves one caller. Each wait in it has a deadline.
    pub(super) async fn serve(&self, mut caller: UnixStream) {
        let limits = &self.limits;
        let request = match request::read(&mut caller, limits.head_bytes, limits.head).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(refusal) => {
                let kind = match refusal {
                    EgressRefusal::Method => "a request without CONNECT",
                    _ => "a malformed request",
                };
                return self.refuse(caller, kind, &refusal).await;
            }
        };
        let TunnelRequest { host, port, early } = request;
        let destination = format!("{host}:{port}");
        let server = match self.reach(&host, port).await {
            Ok(server) => server,
            Err(refusal) => return self.refuse(caller, &destination, &refusal).await,
        };
        if !matches!(timeout(limits.head, caller.write_all(ESTABLISHED)).await, Ok(Ok(()))) {
            return;
        }
        tracing::debug!(run = self.policy.run, host = destination, "the egress proxy connected");
        // An address that is listed as such is one machine, whatever name its programs have.
        let name = match &host {
            DestinationHost::Name(name) => Some(name.as_str()),
            DestinationHost::Address(_) => None,
        };
        if let Err(error) = tunnel::carry(&mut caller, server, name, early, limits).await {
            self.refusals.count(&destination, &error);
            linger(&mut caller, limits.linger).await;
        }
    }

    async fn reach(
        &self,
        host: &DestinationHost,
        port: u16,
    ) -> Result<tokio::net::TcpStream, EgressRefusal> {
        let list = &self.policy.list;
        match self.policy.admits(host, port) {
            None => Err(EgressRefusal::NotListed { host: host.clone(), port, list: list.clone() }),
            Some(private) => {
                uplink::reach(&self.uplink, (host, port), private, list, &self.limits).await
            }
        }
    }

    /// Answers with the reason, and counts it if it is the caller's doing.
    async fn refuse(&self, mut caller: UnixStream, destination: &str, refusal: &EgressRefusal) {
        if refusal.is_refused() {
            self.refusals.count(destination, refusal);
        } else {
            tracing::debug!(run = self.policy.run, %refusal, "the egress proxy failed to connect");
        }
        let answer = refusal.answer();
        let limit = self.limits.linger;
        if matches!(timeout(limit, caller.write_all(answer.as_bytes())).await, Ok(Ok(()))) {
            linger(&mut caller, limit).await;
        }
    }
}

/// Reads the rest of what a refused caller sends, within bounds: a connection that closes with
/// unread bytes is reset, and the caller may lose the answer.
async fn linger(caller: &mut UnixStream, limit: Duration) {
    let drained = async {
        caller.shutdown().await?;
        let mut rest = vec![0; 4096];
        let mut total = 0;
        while total < LINGER_BYTES {
            match caller.read(&mut rest).await? {
                0 => break,
                length => total += length,
            }
        }
        std::io::Result::Ok(())
    };
    // The connection ends in any case.
    let _ = timeout(limit, drained).await;
}
