//! The platform that the demo deploys to: a small HTTP server that answers `/<service>/<route>` by running
//! the released `app.sh`. It keeps no state between two requests.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// The longest time of a request.
const REQUEST: Duration = Duration::from_secs(5);

/// The time within which an earlier demo must free the port.
const HANDOVER: Duration = Duration::from_secs(3);

/// Listens on a port of the loopback until the task is aborted.
pub(super) async fn start(
    port: u16,
    root: PathBuf,
) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let listener = bind(port).await?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let root = root.clone();
            tokio::spawn(async move {
                // A client may disconnect at any time.
                let _ = timeout(REQUEST, serve(stream, &root)).await;
            });
        }
    }))
}

/// Binds the port. The system closes the socket of a killed demo a moment after its end, so a port in use
/// is tried again for a while.
pub(super) async fn bind(port: u16) -> std::io::Result<TcpListener> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

async fn serve(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 16 * 1024 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..read]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("/");
    let (status, body) = answer(root, path).await;
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

async fn answer(root: &Path, path: &str) -> (&'static str, Vec<u8>) {
    let plain =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let not_found = || ("404 Not Found", b"not found\n".to_vec());
    let Some((service, route)) = path.trim_start_matches('/').split_once('/') else {
        return not_found();
    };
    if !plain(service) || !plain(route) {
        return not_found();
    }
    let app = root.join(service).join("current/app.sh");
    if !app.exists() {
        return ("503 Service Unavailable", b"no release yet\n".to_vec());
    }
    let mut command = Command::new("sh");
    command.arg(&app).arg(route).stdin(Stdio::null()).kill_on_drop(true).env_remove("MOON_KEY");
    match command.output().await {
        Ok(done) if done.status.success() => ("200 OK", done.stdout),
        Ok(done) => ("500 Internal Server Error", done.stderr),
        Err(error) => ("500 Internal Server Error", error.to_string().into_bytes()),
    }
}
