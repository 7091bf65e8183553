//! The proxy at a real Unix socket, with real servers; only the resolver and the last step to an
//! address are replaced, since a test reaches nothing but loopback.

mod bounds;
mod refusing;
mod socket;
mod tunnels;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use super::uplink::Uplink;
use super::{EgressLimits, EgressPolicy, EgressProxy};
use crate::config::network::HostPattern;

/// The time within which a test expects an observation.
const SOON: Duration = Duration::from_secs(20);
/// An address of the Internet, which the tests only name.
const PUBLIC: &str = "93.184.216.34";
/// A public address at which nobody answers.
const SILENT: &str = "93.184.216.99";
/// A public address that refuses connections.
const CLOSED: &str = "93.184.216.98";
/// A public address of this machine.
const OWN: &str = "93.184.216.97";

/// The `ClientHello` of rustls for a name or an address, as its records.
pub(super) fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Resolves names from a table and leads each connection to one local server.
#[derive(Clone)]
struct TestUplink {
    names: BTreeMap<&'static str, Vec<IpAddr>>,
    server: SocketAddr,
    lookups: Arc<AtomicUsize>,
    connected: Arc<Mutex<Vec<String>>>,
}

impl Uplink for TestUplink {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let before = self.lookups.fetch_add(1, Ordering::SeqCst);
        match name {
            "silent-dns.example.com" => std::future::pending().await,
            // A resolver under the control of an attacker.
            "rebinding.example.com" if before > 0 => Ok(vec!["127.0.0.1".parse().unwrap()]),
            _ => self.names.get(name).cloned().ok_or_else(|| io::Error::other("no such name")),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.to_string() == OWN
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connected.lock().unwrap().push(address.to_string());
        match address.ip().to_string().as_str() {
            SILENT => std::future::pending().await,
            CLOSED => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => TcpStream::connect(self.server).await,
        }
    }
}

/// An open proxy, and the server that all of its connections lead to.
struct TestProxy {
    proxy: EgressProxy,
    uplink: TestUplink,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl TestProxy {
    /// A proxy for these patterns, with the answers of its resolver.
    fn open(
        patterns: &[&str],
        names: &[(&'static str, &[&str])],
        limits: EgressLimits,
        server: SocketAddr,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("egress").join("r7.sock");
        let parse = |address: &&str| address.parse().unwrap();
        let names =
            names.iter().map(|(name, found)| (*name, found.iter().map(parse).collect())).collect();
        let uplink =
            TestUplink { names, server, lookups: Arc::default(), connected: Arc::default() };
        let proxy =
            EgressProxy::open_with(&socket, policy(patterns), limits, uplink.clone()).unwrap();
        Self { proxy, uplink, socket, _folder: folder }
    }

    /// A proxy that allows `api.example.com`, in front of a server that sends everything back.
    async fn to_echo(limits: EgressLimits) -> Self {
        let server = echo_server().await;
        Self::open(&["api.example.com"], &[("api.example.com", &[PUBLIC])], limits, server)
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// The whole answer to a request that gets no tunnel.
    async fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    /// An open tunnel.
    async fn tunnel(&self, destination: &str) -> UnixStream {
        let mut stream = self.connect().await;
        let request = format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        established(&mut stream).await;
        stream
    }

    fn connected(&self) -> Vec<String> {
        self.uplink.connected.lock().unwrap().clone()
    }
}

fn policy(patterns: &[&str]) -> EgressPolicy {
    EgressPolicy {
        run: "r7".into(),
        list: "[sandbox] hosts of afk.toml".into(),
        hosts: patterns.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
    }
}

/// Reads the answer that opens the tunnel, and nothing behind it.
async fn established(stream: &mut UnixStream) {
    let expected = super::response::ESTABLISHED;
    let mut answer = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(expected));
}

/// Everything up to the end of the stream.
async fn rest(stream: &mut UnixStream) -> String {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

/// A server that sends back what it receives, and closes its direction after the client's.
async fn echo_server() -> SocketAddr {
    serve(|mut stream| async move {
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

/// A server on loopback that handles each connection in a task of its own.
async fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Waits until the condition holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, holds).await.unwrap_or_else(|_| panic!("{what}"));
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
