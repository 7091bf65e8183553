//! The way from the proxy to the network: names become addresses, each address is judged, and the
//! connection goes to an address that was judged. No name is resolved twice, so that a resolver
//! which changes its answer (DNS rebinding) gains nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::EgressLimits;
use super::response::EgressRefusal;
use crate::config::address::AddressKind;
use crate::config::network::DestinationHost;

/// The addresses of one host that are tried at most.
const ADDRESSES: usize = 8;
/// The lookups of one proxy that are under way at once. Each one occupies a thread until the
/// system's resolver gives up, also when nobody waits for it any more.
const LOOKUPS: usize = 8;

/// The part of the operating system that the proxy uses; tests replace it.
pub(super) trait Uplink: Send + Sync + 'static {
    /// The addresses of a name.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// Whether an address belongs to this machine.
    fn is_own(&self, address: IpAddr) -> bool;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// The resolver and the network of this machine.
#[derive(Debug)]
pub(super) struct SystemUplink {
    lookups: Arc<Semaphore>,
}

impl Default for SystemUplink {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Uplink for SystemUplink {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        // A task of its own keeps the permit until the lookup has really ended.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            drop(permit);
            found.map(|found| found.map(|address| address.ip()).take(ADDRESSES * 2).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }

    fn is_own(&self, address: IpAddr) -> bool {
        // The kernel binds only addresses of this machine.
        UdpSocket::bind((address, 0)).is_ok()
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

/// Connects to a host that the allow-list names. `private` is whether its entry allows private
/// addresses, and `list` is the name of that list.
pub(super) async fn reach(
    uplink: &impl Uplink,
    (host, port): (&DestinationHost, u16),
    private: bool,
    list: &str,
    limits: &EgressLimits,
) -> Result<TcpStream, EgressRefusal> {
    let found = match host {
        DestinationHost::Address(address) => vec![*address],
        DestinationHost::Name(name) => resolve(uplink, name, limits.resolve)
            .await
            .map_err(|cause| EgressRefusal::Unresolved { host: host.clone(), cause })?,
    };
    let mut first_refusal = None;
    let mut judged = Vec::new();
    for address in found {
        match judge(uplink, address, private) {
            Ok(()) => judged.push(address),
            Err(kind) => {
                tracing::debug!(%host, %address, ?kind, "an address was left out");
                first_refusal.get_or_insert(kind);
            }
        }
    }
    judged.truncate(ADDRESSES);
    match first_refusal {
        _ if !judged.is_empty() => connect(uplink, &judged, port, limits.connect)
            .await
            .map_err(|cause| EgressRefusal::Unreachable { host: host.clone(), port, cause }),
        Some(AddressKind::Private(range)) => {
            Err(EgressRefusal::PrivateAddress { host: host.clone(), range, list: list.to_owned() })
        }
        Some(AddressKind::Refused(range)) => {
            Err(EgressRefusal::RefusedAddress { host: host.clone(), range })
        }
        Some(AddressKind::Public) | None => {
            let cause = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            Err(EgressRefusal::Unresolved { host: host.clone(), cause })
        }
    }
}

async fn resolve(uplink: &impl Uplink, name: &str, deadline: Duration) -> io::Result<Vec<IpAddr>> {
    timeout(deadline, uplink.resolve(name)).await.unwrap_or_else(|_| Err(no_answer(deadline)))
}

/// Whether a connection may go to an address; the reason if not.
fn judge(uplink: &impl Uplink, address: IpAddr, private: bool) -> Result<(), AddressKind> {
    match AddressKind::of(address) {
        kind @ AddressKind::Refused(_) => Err(kind),
        AddressKind::Private(_) | AddressKind::Public if private => Ok(()),
        kind @ AddressKind::Private(_) => Err(kind),
        // A listener on all addresses of this machine is not for the programs behind the wall.
        AddressKind::Public if uplink.is_own(address) => {
            Err(AddressKind::Private("an address of this machine"))
        }
        AddressKind::Public => Ok(()),
    }
}

/// Tries the addresses in order. Each has its share of the time that is left, so that one which does
/// not answer leaves time for the next.
async fn connect(
    uplink: &impl Uplink,
    addresses: &[IpAddr],
    port: u16,
    deadline: Duration,
) -> io::Result<TcpStream> {
    let end = Instant::now() + deadline;
    let mut last = no_answer(deadline);
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = end.saturating_duration_since(Instant::now()) / left;
        let attempt = uplink.connect(SocketAddr::new(*address, port));
        match timeout_at(Instant::now() + share, attempt).await {
            Ok(Ok(stream)) => {
                // Small messages go on at once, as the caller sent them.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = no_answer(deadline),
        }
    }
    Err(last)
}

fn no_answer(deadline: Duration) -> io::Error {
    let message = format!("no answer in {} s", deadline.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn system_resolves_names_and_knows_its_own_addresses() {
        let uplink = SystemUplink::default();
        let found = uplink.resolve("localhost").await.unwrap();
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert!(uplink.is_own("127.0.0.1".parse().unwrap()));
        assert!(!uplink.is_own("1.1.1.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn lookups_that_nobody_waits_for_keep_their_permits() {
        let uplink = SystemUplink { lookups: Arc::new(Semaphore::new(1)) };
        let held = Arc::clone(&uplink.lookups).acquire_owned().await.unwrap();
        let limit = Duration::from_millis(50);
        let error = resolve(&uplink, "localhost", limit).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer in 0.05 s");
        drop(held);
        assert!(resolve(&uplink, "localhost", Duration::from_secs(20)).await.is_ok());
    }
}
