//! The sandbox's end of the way to the egress proxy.
//!
//! A program with [`super::NetworkPolicy::Proxy`] has a loopback device and nothing else. It is
//! given `http://127.0.0.1:3128` as its proxy, where our init listens in the sandbox's network
//! namespace. A Unix socket that is bound into the sandbox leads out of it:
//!
//! ```text
//! program ─ TCP ─► relay (init, in the sandbox) ─ Unix socket ─► egress proxy (afk's runtime)
//! ```
//!
//! The relay reads nothing of what it carries: the proxy judges every request, also those of a
//! program that opens the socket by itself. Init is a plain process without an async runtime, so
//! that each connection has two threads with small stacks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The port on which the relay listens inside of the sandbox.
pub(super) const PORT: u16 = 3128;

/// The pause after a connection that could not be accepted, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
const STACK_BYTES: usize = 128 * 1024;
const BUFFER_BYTES: usize = 16 * 1024;

/// Bounds of the relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct RelayLimits {
    /// The connections that are open at once; a further one waits in the listener's queue.
    connections: usize,
    /// The silence in both directions after which a connection ends.
    idle: Duration,
    /// The same once the proxy has closed its direction, since no answer can follow.
    drain: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { connections: 64, idle: Duration::from_secs(10 * 60), drain: Duration::from_secs(60) }
    }
}

/// Listens on the sandbox's loopback device, which must be up.
pub(super) fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
}

/// Relays each connection to `socket`, until the process ends.
pub(super) fn serve(listener: &TcpListener, socket: &Path, limits: RelayLimits) -> ! {
    let slots = Arc::new(RelaySlots::default());
    loop {
        let slot = slots.acquire(limits.connections);
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        let socket = socket.to_owned();
        // Where no thread can start, the closure is dropped, and with it the connection and its slot.
        let _ = spawn(move || {
            // The program sees a connection that ends; there is no place for a message.
            let _ = relay(client, &socket, limits);
            drop(slot);
        });
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work)
}

/// The number of open connections.
#[derive(Debug, Default)]
struct RelaySlots {
    open: Mutex<usize>,
    freed: Condvar,
}

/// The place of one connection, which its drop frees.
struct RelaySlot(Arc<RelaySlots>);

impl RelaySlots {
    /// Waits until fewer than `most` connections are open.
    fn acquire(self: &Arc<Self>, most: usize) -> RelaySlot {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(open, |open| *open >= most);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        RelaySlot(Arc::clone(self))
    }
}

impl Drop for RelaySlot {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

/// The state that the two directions of a connection share.
struct RelayedPair {
    client: TcpStream,
    proxy: UnixStream,
    limits: RelayLimits,
    start: Instant,
    /// Milliseconds from `start` to the last byte in either direction.
    last_byte: AtomicU64,
    proxy_closed: AtomicBool,
}

/// The end of a direction that failed or stayed silent for too long.
enum FailedEnd {
    Source,
    Destination,
}

/// Carries one connection until both directions have ended.
fn relay(client: TcpStream, socket: &Path, limits: RelayLimits) -> io::Result<()> {
    let proxy = UnixStream::connect(socket)?;
    // Small messages go on at once: the two ends are on one machine.
    client.set_nodelay(true)?;
    // Each call returns in time to look whether the other direction carried something.
    let tick = Some(limits.idle.min(limits.drain));
    client.set_read_timeout(tick)?;
    client.set_write_timeout(tick)?;
    proxy.set_read_timeout(tick)?;
    proxy.set_write_timeout(tick)?;
    let pair = Arc::new(RelayedPair {
        client,
        proxy,
        limits,
        start: Instant::now(),
        last_byte: AtomicU64::new(0),
        proxy_closed: AtomicBool::new(false),
    });
    let other = Arc::clone(&pair);
    let downward = spawn(move || other.carry_down())?;
    pair.carry_up();
    // A panic in the other thread has closed its direction as well.
    let _ = downward.join();
    Ok(())
}

impl RelayedPair {
    fn carry_up(&self) {
        match self.carry(&self.client, &self.proxy) {
            Ok(()) => drop(self.proxy.shutdown(Shutdown::Write)),
            // The proxy reads no more, and its answer may still be on its way.
            Err(FailedEnd::Destination) => self.proxy_closed.store(true, Ordering::Relaxed),
            Err(FailedEnd::Source) => self.close(),
        }
    }

    fn carry_down(&self) {
        match self.carry(&self.proxy, &self.client) {
            Ok(()) => {
                self.proxy_closed.store(true, Ordering::Relaxed);
                drop(self.client.shutdown(Shutdown::Write));
            }
            Err(_) => self.close(),
        }
    }

    /// Ends both directions, which wakes the other thread.
    fn close(&self) {
        // Either may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.proxy.shutdown(Shutdown::Both);
    }

    /// Copies until the source ends.
    fn carry(&self, mut from: impl Read, mut to: impl Write) -> Result<(), FailedEnd> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = self.attempt(|| from.read(&mut buffer));
            let length = read.map_err(|_| FailedEnd::Source)?;
            if length == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                match self.attempt(|| to.write(rest)) {
                    Ok(written) if written > 0 => rest = &rest[written..],
                    _ => return Err(FailedEnd::Destination),
                }
            }
        }
    }

    /// Repeats a read or a write whose time ran out, as long as the connection is not idle.
    fn attempt(&self, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match call() {
                Ok(length) => {
                    self.last_byte.store(self.elapsed(), Ordering::Relaxed);
                    return Ok(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && !self.is_idle() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_idle(&self) -> bool {
        let closed = self.proxy_closed.load(Ordering::Relaxed);
        let limit = if closed { self.limits.drain } else { self.limits.idle };
        let silent = self.elapsed().saturating_sub(self.last_byte.load(Ordering::Relaxed));
        u128::from(silent) >= limit.as_millis()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The kinds that a socket's own timeout has on different systems.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::AtomicUsize;

    use sha2::{Digest, Sha256};

    use super::*;

    /// The time within which a test expects an observation.
    const SOON: Duration = Duration::from_secs(20);

    struct TestRelay {
        address: std::net::SocketAddr,
        _folder: tempfile::TempDir,
    }

    impl TestRelay {
        /// A relay to a server that handles each connection in a thread of its own.
        fn open(
            limits: RelayLimits,
            server: impl Fn(UnixStream) + Send + Sync + Clone + 'static,
        ) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("egress.sock");
            let unix = UnixListener::bind(&socket).unwrap();
            thread::spawn(move || {
                for stream in unix.incoming() {
                    let server = server.clone();
                    thread::spawn(move || server(stream.unwrap()));
                }
            });
            Self::to(limits, &socket, folder)
        }

        fn to(limits: RelayLimits, socket: &Path, folder: tempfile::TempDir) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let socket = socket.to_owned();
            thread::spawn(move || serve(&listener, &socket, limits));
            Self { address, _folder: folder }
        }

        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
        }
    }

    fn echo(mut stream: UnixStream) {
        let mut writer = stream.try_clone().unwrap();
        let _ = io::copy(&mut stream, &mut writer);
        let _ = writer.shutdown(Shutdown::Write);
    }

    /// Bytes without a period that a lost or repeated buffer could hide behind.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn relay_carries_both_directions_at_once_and_unchanged() {
        let up = noise(16 << 20, 1);
        let (up_digest, down) = (Sha256::digest(&up), noise(16 << 20, 2));
        let (result, received) = std::sync::mpsc::channel();
        let server_down = down.clone();
        let relay = TestRelay::open(RelayLimits::default(), move |mut stream| {
            let mut writer = stream.try_clone().unwrap();
            let down = server_down.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&down).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            writing.join().unwrap();
            result.send(Sha256::digest(&all)).unwrap();
        });
        let mut client = relay.connect();
        let mut writer = client.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&up).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        writing.join().unwrap();
        assert_eq!(Sha256::digest(&all), Sha256::digest(&down));
        assert_eq!(received.recv_timeout(SOON).unwrap(), up_digest);
    }

    #[test]
    fn half_closed_client_still_receives_the_answer() {
        let relay = TestRelay::open(RelayLimits::default(), |mut stream| {
            let mut request = String::new();
            stream.read_to_string(&mut request).unwrap();
            stream.write_all(format!("{request} answered").as_bytes()).unwrap();
        });
        let mut client = relay.connect();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "request answered");
    }

    #[test]
    fn relay_bounds_open_connections_and_serves_the_waiting_ones() {
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, peak) = (Arc::clone(&open), Arc::clone(&most));
        let limits = RelayLimits { connections: 8, ..RelayLimits::default() };
        let relay = TestRelay::open(limits, move |stream| {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The relay closes its end only after ours.
            echo(stream.try_clone().unwrap());
            now.fetch_sub(1, Ordering::SeqCst);
            drop(stream);
        });
        let mut clients: Vec<TcpStream> = (0..100).map(|_| relay.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(format!("client {number}").as_bytes()).unwrap();
        }
        // Each client keeps its connection open until its turn.
        for (number, mut client) in clients.into_iter().enumerate() {
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, format!("client {number}"));
        }
        let most = most.load(Ordering::SeqCst);
        assert!((1..=8).contains(&most), "{most} connections were open at once");
    }

    #[test]
    fn idle_connection_ends_while_a_busy_one_goes_on() {
        let idle = Duration::from_millis(200);
        let limits = RelayLimits { idle, ..RelayLimits::default() };
        // The server sends for several idle limits and receives nothing meanwhile.
        let relay = TestRelay::open(limits, move |mut stream| {
            let mut kind = [0];
            stream.read_exact(&mut kind).unwrap();
            let end = Instant::now() + idle * 5;
            while kind == *b"b" && Instant::now() < end {
                stream.write_all(b".").unwrap();
                thread::sleep(idle / 20);
            }
            let _ = if kind == *b"b" { stream.write_all(b"!") } else { Ok(()) };
            let _ = stream.read(&mut kind);
        });
        let mut busy = relay.connect();
        busy.write_all(b"b").unwrap();
        let mut silent = relay.connect();
        silent.write_all(b"s").unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        let mut all = Vec::new();
        busy.read_to_end(&mut all).unwrap();
        assert_eq!(all.last(), Some(&b'!'));
    }

    #[test]
    fn silent_client_frees_its_slot_after_the_proxy_closed() {
        let limits = RelayLimits {
            connections: 1,
            drain: Duration::from_millis(100),
            ..RelayLimits::default()
        };
        let relay = TestRelay::open(limits, |mut stream| {
            stream.write_all(b"bye").unwrap();
        });
        let mut answer = String::new();
        let mut stuck = relay.connect();
        stuck.read_to_string(&mut answer).unwrap();
        // The first client keeps its end open, and the second one needs its slot.
        relay.connect().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "byebye");
        drop(stuck);
    }

    #[test]
    fn missing_proxy_closes_the_connection_and_not_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("egress.sock");
        let relay = TestRelay::to(RelayLimits::default(), &socket, folder);
        let mut rest = Vec::new();
        relay.connect().read_to_end(&mut rest).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || echo(listener.accept().unwrap().0));
        let mut client = relay.connect();
        client.write_all(b"back").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"back");
    }
}
