//! Refuses processes that afk started itself at every listener: an agent, a test or a deploy command
//! that finds a token or a key still gets no way in.
//!
//! The attach socket has the peer's pid from the kernel. For TCP, afk looks up the socket at the other
//! end and asks whether a process below afk has it open. Only a peer on this machine can be one, so a
//! peer of another machine costs one system call. A local one costs about 15 µs, and as much again for each
//! process that works below afk, once a connection; the event loop doesn't wait for it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::timeout;

use crate::runtime::Handle;

/// The time that the search may take. A peer that is not found by then is refused.
const SEARCH: Duration = Duration::from_secs(5);

/// Whether the peer of a TCP connection is a process below this afk, or can't be told from one.
pub(super) async fn is_peer(handle: &Handle, peer: SocketAddr, local: SocketAddr) -> bool {
    let (peer, local) = (canonical(peer), canonical(local));
    if peer.ip() != local.ip() && !is_of_this_machine(peer.ip()) {
        return false;
    }
    let handle = handle.clone();
    let search = tokio::task::spawn_blocking(move || handle.is_socket_below(peer, local));
    !matches!(timeout(SEARCH, search).await, Ok(Ok(false)))
}

/// An IPv4 address that a socket of IPv6 reports, as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address is one of this machine: nobody can bind another one.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_another_machine_is_told_from_an_own_one() {
        for (address, own) in [("127.0.0.1", true), ("127.9.9.9", true), ("192.0.2.1", false)] {
            assert_eq!(is_of_this_machine(address.parse().unwrap()), own, "{address}");
        }
    }
}
