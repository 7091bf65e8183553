//! The two directions of an open tunnel, until both have ended or neither has carried a byte for
//! too long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

use super::EgressLimits;
use super::server_name::{ServerNameCheck, ServerNameError, UNRECOGNIZED_NAME};

const BUFFER_BYTES: usize = 16 * 1024;

/// The latest sign of life of a tunnel.
struct TunnelActivity {
    start: Instant,
    /// Milliseconds from `start` to the last byte in either direction.
    last_byte: AtomicU64,
    /// The server sends or takes no more.
    ending: AtomicBool,
}

/// Carries both directions. `name` is the host that a `ClientHello` has to name, and `early` what
/// the caller sent behind its request.
pub(super) async fn carry(
    caller: &mut UnixStream,
    mut server: TcpStream,
    name: Option<&str>,
    early: Vec<u8>,
    limits: &EgressLimits,
) -> Result<(), ServerNameError> {
    let activity = TunnelActivity {
        start: Instant::now(),
        last_byte: AtomicU64::new(0),
        ending: AtomicBool::new(false),
    };
    let (from_caller, mut to_caller) = caller.split();
    let (from_server, to_server) = server.split();
    let refused = {
        let up = carry_up(from_caller, to_server, name, early, &activity);
        let down = carry_down(from_server, &mut to_caller, &activity);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => match ended {
                Err(TunnelEnd::ServerName(error)) => Some(error),
                Ok(_) | Err(TunnelEnd::Broken) => None,
            },
            () = silence(&activity, limits) => None,
        }
    };
    match refused {
        None => Ok(()),
        Some(error) => {
            // A caller that does not take these few bytes has stopped reading.
            let _ = to_caller.try_write(&UNRECOGNIZED_NAME);
            Err(error)
        }
    }
}

/// Why both directions end at once.
enum TunnelEnd {
    ServerName(ServerNameError),
    /// The caller is gone, or the server broke off the connection.
    Broken,
}

async fn carry_up(
    mut from: unix::ReadHalf<'_>,
    mut to: impl AsyncWrite + Unpin,
    name: Option<&str>,
    early: Vec<u8>,
    activity: &TunnelActivity,
) -> Result<(), TunnelEnd> {
    let first = match name {
        None => early,
        Some(name) => check_name(&mut from, name, early, activity).await?,
    };
    let copied = async {
        to.write_all(&first).await.map_err(|_| CopyError::Write)?;
        drop(first);
        copy(&mut from, &mut to, activity).await
    };
    match copied.await {
        Ok(()) => drop(to.shutdown().await),
        Err(CopyError::Read) => return Err(TunnelEnd::Broken),
        // The server reads no more, and its answer may still be on its way.
        Err(CopyError::Write) => activity.ending.store(true, Ordering::Relaxed),
    }
    Ok(())
}

/// Reads until the name is known, and returns everything that was read.
async fn check_name(
    from: &mut unix::ReadHalf<'_>,
    name: &str,
    early: Vec<u8>,
    activity: &TunnelActivity,
) -> Result<Vec<u8>, TunnelEnd> {
    let mut check = ServerNameCheck::new(name);
    let mut all = early;
    let mut done = check.read(&all).map_err(TunnelEnd::ServerName)?;
    while !done {
        let before = all.len();
        match from.read_buf(&mut all).await {
            // Half of a hello is of no use to the server.
            Ok(0) => return Ok(Vec::new()),
            Ok(_) => activity.touch(),
            Err(_) => return Err(TunnelEnd::Broken),
        }
        done = check.read(&all[before..]).map_err(TunnelEnd::ServerName)?;
    }
    Ok(all)
}

async fn carry_down(
    mut from: impl AsyncRead + Unpin,
    to: &mut unix::WriteHalf<'_>,
    activity: &TunnelActivity,
) -> Result<(), TunnelEnd> {
    copy(&mut from, to, activity).await.map_err(|_| TunnelEnd::Broken)?;
    activity.ending.store(true, Ordering::Relaxed);
    to.shutdown().await.map_err(|_| TunnelEnd::Broken)
}

/// The side of a direction that failed.
enum CopyError {
    Read,
    Write,
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    activity: &TunnelActivity,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| CopyError::Read)?;
        if length == 0 {
            return Ok(());
        }
        activity.touch();
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let written = to.write(rest).await.map_err(|_| CopyError::Write)?;
            if written == 0 {
                return Err(CopyError::Write);
            }
            activity.touch();
            rest = &rest[written..];
        }
    }
}

/// Returns once neither direction has carried a byte for the limit.
async fn silence(activity: &TunnelActivity, limits: &EgressLimits) {
    loop {
        let ending = activity.ending.load(Ordering::Relaxed);
        let limit = if ending { limits.drain } else { limits.idle };
        let silent = activity.silent_for();
        if silent >= limit {
            return;
        }
        // The limit may shrink meanwhile.
        sleep(limit.saturating_sub(silent).min(limits.drain)).await;
    }
}

impl TunnelActivity {
    fn touch(&self) {
        self.last_byte.store(self.elapsed(), Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        let last = self.last_byte.load(Ordering::Relaxed);
        Duration::from_millis(self.elapsed().saturating_sub(last))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
