//! Bounds of connections, for every way in: a number in all, and one for each peer, so that a single
//! peer can't keep the others out.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::lock::LockExt;
use crate::process::descriptors::Reserve;

/// The pause after a failed `accept`: without descriptors it fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of one way in, by peer.
#[derive(Debug)]
pub(super) struct ConnectionLimits<P> {
    slots: Arc<Semaphore>,
    most_of_a_peer: usize,
    by_peer: Mutex<HashMap<P, usize>>,
}

/// One of the connections that a peer may have; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionSlot<P: Eq + Hash> {
    limits: Arc<ConnectionLimits<P>>,
    peer: P,
    _slot: OwnedSemaphorePermit,
}

impl<P: Clone + Eq + Hash> ConnectionLimits<P> {
    pub fn new(most: usize, most_of_a_peer: usize) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(most));
        Arc::new(Self { slots, most_of_a_peer, by_peer: Mutex::default() })
    }

    /// A slot for a new connection; `None` where there is none left, and the connection is to be closed.
    pub fn acquire(self: &Arc<Self>, peer: P) -> Option<ConnectionSlot<P>> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let mut all = self.by_peer.locked();
        let count = all.entry(peer.clone()).or_default();
        if *count >= self.most_of_a_peer {
            return None;
        }
        *count += 1;
        drop(all);
        Some(ConnectionSlot { limits: self.clone(), peer, _slot: slot })
    }
}

impl<P: Eq + Hash> Drop for ConnectionSlot<P> {
    fn drop(&mut self) {
        let mut all = self.limits.by_peer.locked();
        if let Some(count) = all.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.peer);
            }
        }
    }
}

/// Accepts the next connection that is within the bounds. One that is not is closed at once and costs
/// nothing more.
pub(super) async fn accept(
    way_in: &'static str,
    listener: &TcpListener,
    limits: &Arc<ConnectionLimits<IpAddr>>,
) -> (TcpStream, SocketAddr, ConnectionSlot<IpAddr>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(way_in, &error).await;
                continue;
            }
        };
        if Reserve::Network.is_free_beyond(&stream)
            && let Some(slot) = limits.acquire(peer_network(peer.ip()))
        {
            return (stream, peer, slot);
        }
    }
}

/// The address that a peer is counted by. A peer with IPv6 usually has a network of 64 bits to itself.
fn peer_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
        }
        address => address,
    }
}

/// Waits after a failed `accept`. A listener goes on after every error: the connection that failed is
/// gone, and descriptors become free again.
pub(super) async fn accept_failed(way_in: &'static str, error: &io::Error) {
    tracing::warn!(way_in, %error, "a connection can't be accepted");
    sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_slots_to_the_others() {
        let limits = ConnectionLimits::new(5, 3);
        let held: Vec<_> = (0..10).filter_map(|_| limits.acquire(1)).collect();
        assert_eq!(held.len(), 3);
        let others: Vec<_> = (0..10).filter_map(|_| limits.acquire(2)).collect();
        assert_eq!(others.len(), 2);
        assert!(limits.acquire(3).is_none());
        drop(held);
        assert!(limits.acquire(3).is_some() && limits.acquire(1).is_some());
        drop(others);
        assert!(limits.by_peer.locked().is_empty());
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let of = |text: &str| peer_network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("::1"), of("::2"));
    }
}
