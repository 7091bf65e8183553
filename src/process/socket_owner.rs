//! Finds the process at the other end of a local TCP connection, to tell afk's own children from other
//! programs of the same user.
//!
//! ```text
//! addresses ─ NETLINK_SOCK_DIAG, or /proc/net/tcp ─▶ inode ─ /proc/PID/fd of afk's descendants ─▶ yes or no
//! ```

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::procfs;
use super::supervisor::Supervisor;

/// The most descendants that are searched; more of them are no tree that afk permits.
const MOST: usize = 100_000;

/// What the kernel knows about one end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// The inode of a socket that some process has open.
    Open(u64),
    /// No process has it open any more.
    Closed,
}

/// Whether a process has a socket open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Yes,
    No,
    /// The process doesn't let us read its descriptors.
    Unreadable,
}

impl Supervisor {
    /// Whether the socket at `client`, connected to `server` on this machine, belongs to a process below
    /// this one. So does one that nobody has open any more: its owner can't be determined.
    pub(crate) fn is_socket_below(&self, client: SocketAddr, server: SocketAddr) -> bool {
        let found = by_netlink(client, server).unwrap_or_else(|| by_proc(client, server));
        let Socket::Open(inode) = found else { return true };
        let Some(descendants) = descendants() else {
            return procfs::processes().any(|process| {
                holds(process.pid, inode) != Holder::No && self.is_below(process.pid)
            });
        };
        let mut hides = false;
        for pid in &descendants {
            match holds(*pid, inode) {
                Holder::No => {}
                Holder::Yes if self.is_below(*pid) => return true,
                Holder::Yes => return false,
                Holder::Unreadable => hides |= self.is_below(*pid),
            }
        }
        // A child may hide its descriptors. Then only a process elsewhere that has the socket open shows
        // that it is not the child's.
        hides
            && !procfs::processes().any(|process| {
                holds(process.pid, inode) == Holder::Yes && !self.is_below(process.pid)
            })
    }
}

/// All processes below this one; `None` where the kernel doesn't list children.
fn descendants() -> Option<Vec<i32>> {
    let mut all = procfs::children()?;
    let mut next = 0;
    while let Some(pid) = all.get(next).copied().filter(|_| all.len() < MOST) {
        all.extend(procfs::children_of(pid).unwrap_or_default());
        next += 1;
    }
    Some(all)
}

fn holds(pid: i32, inode: u64) -> Holder {
    let wanted = format!("socket:[{inode}]");
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(mut open) => {
            let holds = open.any(|entry| {
                entry
                    .and_then(|entry| std::fs::read_link(entry.path()))
                    .is_ok_and(|target| target.as_path() == Path::new(&wanted))
            });
            if holds { Holder::Yes } else { Holder::No }
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Holder::Unreadable,
        // The process has ended.
        Err(_) => Holder::No,
    }
}

// From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// The place of `idiag_state` and of `idiag_inode` in an answer.
const STATE: usize = HEADER + 1;
const INODE: usize = HEADER + 68;
const ENOENT: i32 = 2;

/// Asks the kernel for exactly this socket; `None` where it doesn't answer such questions.
fn by_netlink(client: SocketAddr, server: SocketAddr) -> Option<Socket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol).ok()?;
    send(&socket, &request(client, server), SendFlags::empty()).ok()?;
    let mut answer = [0; 1024];
    // The kernel has written the answer before `send` returned.
    let (bytes, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).ok()?;
    let answer = answer.get(..bytes)?;
    match u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?) {
        SOCK_DIAG_BY_FAMILY => {
            let inode = u32::from_ne_bytes(answer.get(INODE..INODE + 4)?.try_into().ok()?);
            // Without a connection the kernel finds a listener on the same port.
            let open = inode != 0 && answer[STATE] != TCP_LISTEN;
            Some(if open { Socket::Open(inode.into()) } else { Socket::Closed })
        }
        NLMSG_ERROR => {
            let error = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
            (error == -ENOENT).then_some(Socket::Closed)
        }
        _ => None,
    }
}

/// The question for one socket: `nlmsghdr` and `inet_diag_req_v2`.
fn request(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut request = Vec::with_capacity(REQUEST);
    request.extend(u32::try_from(REQUEST).unwrap_or(0).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // The number of the message, and the kernel as its receiver.
    request.extend([0; 8]);
    request.extend([family, IPPROTO_TCP, 0, 0]);
    // Every state.
    request.extend([0xff; 4]);
    request.extend(client.port().to_be_bytes());
    request.extend(server.port().to_be_bytes());
    for address in [client.ip(), server.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        request.extend(bytes);
    }
    // Every interface, and no cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    request
}

/// Reads all sockets of this machine: milliseconds where the kernel answers in 5 µs.
fn by_proc(client: SocketAddr, server: SocketAddr) -> Socket {
    let texts = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(std::fs::read_to_string);
    let lines = texts.iter().flatten().flat_map(|text| text.lines().skip(1));
    for line in lines {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |at: usize| fields.get(at).and_then(|field| parse_address(field));
        if address(1) == Some(client) && address(2) == Some(server) {
            return match fields.get(9).and_then(|inode| inode.parse().ok()) {
                None | Some(0) => Socket::Closed,
                Some(inode) => Socket::Open(inode),
            };
        }
    }
    Socket::Closed
}

/// Parses `0100007F:1F90`: words of the address in this machine's byte order, and the port.
fn parse_address(field: &str) -> Option<SocketAddr> {
    let (address, port) = field.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = if address.len() == 8 {
        IpAddr::from(word(0)?.to_ne_bytes())
    } else {
        let mut bytes = [0; 16];
        for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(at * 8)?.to_ne_bytes());
        }
        IpAddr::from(bytes).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    fn connected(address: &str) -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, client) = listener.accept().unwrap();
        let server = far.local_addr().unwrap();
        (near, far, client, server)
    }

    #[test]
    fn both_ways_find_the_same_socket() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            drop(listener);
            let (near, _far, client, server) = connected(address);
            let found = by_netlink(client, server).expect("the kernel answers");
            assert_eq!(found, by_proc(client, server));
            let Socket::Open(inode) = found else { panic!("{address} is closed") };
            assert_eq!(holds(procfs::own_pid(), inode), Holder::Yes);
            assert_ne!(by_netlink(server, client), Some(found));
            drop(near);
            assert_eq!(by_netlink(client, server), Some(Socket::Closed));
            assert_eq!(by_proc(client, server), Socket::Closed);
        }
    }

    #[test]
    fn socket_of_a_descendant_is_found_and_that_of_another_process_is_not() {
        let supervisor =
            Supervisor::new("/proc/self/exe".into(), "socket-test".into(), Duration::from_secs(1));
        let (near, _far, client, server) = connected("127.0.0.1:0");
        // Our own end is not below us.
        assert!(!supervisor.is_socket_below(client, server));
        // A grandchild has it as its standard input, and we close ours.
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            // As every child of ours; its environment can't be read at once.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(near)))
            .spawn()
            .unwrap();
        assert!(supervisor.is_socket_below(client, server));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(supervisor.is_socket_below(client, server), "its orphan has it, or nobody");
        let group = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        // The orphan may not have begun.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}
