//! Accepts HTTP connections within bounds: a client that sends or reads slowly, or opens many
//! connections, costs no other client anything.
//!
//! ```text
//! accept ─▶ admit: descriptors, slots ─▶ task ─▶ http1: header deadline ─▶ body deadline ─▶ router
//!                                              └─ every write: a deadline for a client that reads nothing
//! ```
//!
//! A request that waits for its answer, and a stream of server-sent events, last as long as they like.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::ConnectInfo;
use axum::http::Request;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::peer::Peer;
use crate::serve::limits::{self, ConnectionLimits};

/// The largest head of a request, in bytes.
const HEAD: usize = 64 * 1024;
/// How long the requests that are under way at the end may take.
const FINISH: Duration = Duration::from_secs(5);

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct HttpBounds {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address. A proxy has one address for all of its clients.
    pub of_an_address: usize,
    /// The time for the head of a request, and the longest that a connection may be idle.
    pub head: Duration,
    /// The time for the body of a request.
    pub body: Duration,
    /// The time within which a client must read something of what it is sent.
    pub write: Duration,
}

impl HttpBounds {
    pub const DEFAULT: Self = Self {
        connections: 512,
        of_an_address: 256,
        head: Duration::from_secs(30),
        body: Duration::from_secs(60),
        write: Duration::from_secs(60),
    };
}

/// Accepts connections until it is dropped. `closing` ends the connections that it has accepted.
pub(super) async fn accept(
    listener: TcpListener,
    app: Router,
    bounds: HttpBounds,
    closing: CancellationToken,
) {
    let limits = ConnectionLimits::new(bounds.connections, bounds.of_an_address);
    loop {
        let (stream, peer, slot) = limits::accept("http", &listener, &limits).await;
        let (app, closing) = (app.clone(), closing.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, app, bounds, closing).await {
                tracing::debug!(%peer, %error, "an HTTP connection ended");
            }
            drop(slot);
        });
    }
}

async fn serve(
    stream: TcpStream,
    app: Router,
    bounds: HttpBounds,
    closing: CancellationToken,
) -> Result<(), hyper::Error> {
    let peer = ConnectInfo(Peer::new(&stream));
    let service = app.map_request(move |mut request: Request<Incoming>| {
        let end = Instant::now() + bounds.body;
        request.extensions_mut().insert(peer.clone());
        request.map(|body| body_until(end, Body::new(body)))
    });
    let stream = ReadingPeer { stream, limit: bounds.write, stalled: None };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // A stream of events does not end by itself.
    timeout(FINISH, connection).await.unwrap_or(Ok(()))
}

/// A body that fails at a deadline.
fn body_until(end: Instant, body: Body) -> Body {
    let pieces = futures::stream::unfold(Some(body.into_data_stream()), move |left| async move {
        let mut pieces: BodyDataStream = left?;
        match timeout_at(end, pieces.next()).await {
            Ok(piece) => Some((piece?.map_err(io::Error::other), Some(pieces))),
            Err(late) => Some((Err(io::Error::from(late)), None)),
        }
    });
    Body::from_stream(pieces)
}

/// A connection whose writes fail once its peer has read nothing for `limit`.
struct ReadingPeer {
    stream: TcpStream,
    limit: Duration,
    /// Elapses when the write that waits has waited too long.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ReadingPeer {
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ReadingPeer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ReadingPeer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use axum::response::sse::{Event, Sse};
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Longer than every bound below, and shorter than the patience of a test.
    const LONG: Duration = Duration::from_secs(20);

    const SHORT: HttpBounds = HttpBounds {
        connections: 4,
        of_an_address: 4,
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        write: Duration::from_millis(300),
    };

    async fn start(bounds: HttpBounds) -> (SocketAddr, CancellationToken) {
        let events = || async {
            let ticks = tokio::time::interval(Duration::from_millis(50));
            let ticks = futures::stream::unfold(ticks, |mut ticks| async move {
                ticks.tick().await;
                Some((Ok::<_, Infallible>(Event::default().data("tick")), ticks))
            });
            Sse::new(ticks)
        };
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/big", get(|| async { vec![b'x'; 64 * 1024 * 1024] }))
            .route("/events", get(events))
            .route("/", post(|body: String| async move { body.len().to_string() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        tokio::spawn(accept(listener, app, bounds, closing.clone()));
        (address, closing)
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Everything that the server sends until it closes the connection.
    async fn closed(mut stream: TcpStream) -> String {
        let mut all = Vec::new();
        // A connection that is closed with unread bytes is reset.
        let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("it stays open");
        String::from_utf8_lossy(&all).into_owned()
    }

    async fn answers(address: SocketAddr) -> bool {
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let Ok(mut stream) = TcpStream::connect(address).await else { return false };
        if stream.write_all(request.as_bytes()).await.is_err() {
            return false;
        }
        closed(stream).await.ends_with("here")
    }

    async fn until_it_answers(address: SocketAddr) {
        let wait = async {
            while !answers(address).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, wait).await.expect("no slot became free");
    }

    #[tokio::test]
    async fn clients_that_send_slowly_are_disconnected() {
        let (address, _) = start(SHORT).await;
        let silent = send(address, "").await;
        let half = send(address, "GET / HTTP/1.1\r\nhost: x\r\nslow").await;
        let body = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nfour";
        let body = send(address, body).await;
        let idle = send(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // All four slots are taken, and the next client is refused at once.
        assert_eq!(closed(send(address, "").await).await, "");
        assert!(!closed(silent).await.contains("200"));
        assert!(!closed(half).await.contains("200"));
        let refused = closed(body).await;
        assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
        assert!(closed(idle).await.ends_with("here"));
        until_it_answers(address).await;
    }

    #[tokio::test]
    async fn client_that_reads_nothing_is_disconnected() {
        let one = HttpBounds { connections: 1, ..SHORT };
        let (address, _) = start(one).await;
        let stream = send(address, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
        stream.readable().await.unwrap();
        assert!(!answers(address).await, "the slot is not taken");
        until_it_answers(address).await;
    }

    #[tokio::test]
    async fn stream_of_events_outlives_every_deadline_and_ends_with_the_listener() {
        let (address, closing) = start(SHORT).await;
        let mut stream = send(address, "GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let begun = std::time::Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < SHORT.head * 4 {
            let read = timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "it was closed after {:?}", begun.elapsed());
        }
        closing.cancel();
        let ended = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
        assert!(timeout(LONG, ended).await.is_ok(), "it stays open");
    }

    #[tokio::test]
    async fn head_without_an_end_stays_within_its_bound() {
        let patient = HttpBounds { head: LONG, ..SHORT };
        let (address, _) = start(patient).await;
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD * 2));
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close the connection before all is sent.
        let _ = stream.write_all(endless.as_bytes()).await;
        assert!(!closed(stream).await.contains("200"));
    }
}
