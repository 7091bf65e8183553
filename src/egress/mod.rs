//! The egress proxy: the only way to the network for a program with the policy `proxy`.
//!
//! The runtime opens one proxy for each such run. The proxy listens on a Unix socket that the
//! launcher binds into the run's sandbox, where a relay carries the program's connections to it:
//!
//! ```text
//! relay ─ Unix socket ─► accept (mod.rs, bounded)
//!                          └► CONNECT host:port (request.rs) ─► allow-list (EgressPolicy)
//!                               └► resolve, judge each address, connect to one (uplink.rs)
//!                                    └► copy both ways (tunnel.rs), after a look at the name
//!                                       in the ClientHello (server_name.rs)
//! ```
//!
//! The proxy carries `CONNECT` alone and never opens TLS: it reads the name of a host, and nothing
//! that is sent to it. Everything that comes from the socket is hostile, so each wait and each
//! buffer has a bound ([`EgressLimits`]), and a refusal is counted and logged (`refusals.rs`).

mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod refusals;
mod request;
mod response;
mod server_name;
#[cfg(test)]
mod tests;
mod tunnel;
mod uplink;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::network::{DestinationHost, HostPattern};
use connection::Connections;
use refusals::EgressRefusals;
pub(crate) use refusals::RefusalCounts;
use uplink::{SystemUplink, Uplink};

/// The pause after a connection that could not be accepted, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What the programs of one run may reach.
#[derive(Debug, Clone)]
pub(crate) struct EgressPolicy {
    /// The run, as the log names it.
    pub(crate) run: String,
    /// Where a person finds the list, such as `[sandbox] hosts of afk.toml`; refusals name it.
    pub(crate) list: String,
    /// The hosts, of which each connection has to match one.
    pub(crate) hosts: Vec<HostPattern>,
}

impl EgressPolicy {
    /// Whether a host may be reached: `Some(true)` if its addresses may be private.
    fn admits(&self, host: &DestinationHost, port: u16) -> Option<bool> {
        let covering = self.hosts.iter().filter(|pattern| pattern.covers(host, port));
        covering.map(HostPattern::is_private).max()
    }
}

/// Bounds of a proxy.
#[derive(Debug, Clone, Copy)]
struct EgressLimits {
    /// The connections that are open at once; a further one waits in the socket's queue.
    connections: usize,
    /// The length of a request with its headers.
    head_bytes: usize,
    /// The time for a whole request.
    head: Duration,
    /// The time for an answer of the resolver.
    resolve: Duration,
    /// The time for a connection, over all addresses of the host.
    connect: Duration,
    /// The silence in both directions after which a tunnel ends.
    idle: Duration,
    /// The same once the server has closed its direction, since no answer can follow.
    drain: Duration,
    /// The time in which a refused caller can take the answer.
    linger: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 8 * 1024,
            head: Duration::from_secs(10),
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(10 * 60),
            drain: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// The proxy's socket can't be created.
#[derive(Debug, thiserror::Error)]
#[error("open the egress proxy's socket {}", path.display())]
pub(crate) struct EgressError {
    path: PathBuf,
    source: io::Error,
}

/// One open proxy. Its drop closes the socket, removes the file and ends all connections.
#[derive(Debug)]
pub(crate) struct EgressProxy {
    path: PathBuf,
    /// Device and inode of the socket: a later proxy at the same path keeps its file.
    file: (u64, u64),
    listening: AbortHandle,
    refusals: Arc<EgressRefusals>,
}

impl EgressProxy {
    /// Listens at `path`, inside of the runtime of tokio. The folder is created if it is missing and
    /// closed to other users; a socket of an earlier process is replaced.
    pub(crate) fn open(path: &Path, policy: EgressPolicy) -> Result<Self, EgressError> {
        Self::open_with(path, policy, EgressLimits::default(), SystemUplink::default())
    }

    fn open_with(
        path: &Path,
        policy: EgressPolicy,
        limits: EgressLimits,
        uplink: impl Uplink,
    ) -> Result<Self, EgressError> {
        let (listener, file) =
            bind(path).map_err(|source| EgressError { path: path.to_owned(), source })?;
        let refusals = Arc::new(EgressRefusals::new(policy.run.clone()));
        let connections = Connections { policy, limits, uplink, refusals: Arc::clone(&refusals) };
        let listening = tokio::spawn(listen(listener, Arc::new(connections))).abort_handle();
        Ok(Self { path: path.to_owned(), file, listening, refusals })
    }

    /// The refusals since the proxy was opened.
    pub(crate) fn refusals(&self) -> RefusalCounts {
        self.refusals.counts()
    }
}

impl Drop for EgressProxy {
    fn drop(&mut self) {
        self.listening.abort();
        let same = |meta: std::fs::Metadata| (meta.dev(), meta.ino()) == self.file;
        if std::fs::symlink_metadata(&self.path).is_ok_and(same) {
            // What stays is replaced by the next proxy at this path.
            let _ = std::fs::remove_file(&self.path);
        }
        self.refusals.log_total();
    }
}

/// Binds the socket with the mode 0600 in a folder with the mode 0700, and returns its device and
/// inode.
fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    std::fs::create_dir_all(folder)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(folder, flags, Mode::empty())?);
    if folder.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        let message = "the folder belongs to another user";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    folder.set_permissions(PermissionsExt::from_mode(0o700))?;
    // The path through the descriptor leads to the folder that was checked, and is short enough for
    // a socket's address however long the state folder's is.
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(&path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    let meta = std::fs::symlink_metadata(&path)?;
    Ok((listener, (meta.dev(), meta.ino())))
}

/// Accepts connections until the proxy is dropped, which ends the connections as well.
async fn listen<U: Uplink>(listener: UnixListener, connections: Arc<Connections<U>>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < connections.limits.connections => {
                match accepted {
                    Ok((stream, _)) => {
                        let connections = Arc::clone(&connections);
                        open.spawn(async move { connections.serve(stream).await });
                    }
                    Err(error) => {
                        tracing::debug!(run = connections.policy.run, %error, "accept failed");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    let run = &connections.policy.run;
                    tracing::error!(run, %error, "a connection of the egress proxy failed");
                }
            }
        }
    }
}
