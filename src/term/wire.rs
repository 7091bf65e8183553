//! Sends frames to a terminal, with one frame in flight: the session draws the next frame only
//! after the terminal has accepted the last one, so a slow link drops frames instead of queueing
//! them.
//!
//! A local terminal is written by a thread, since such a write can block. A remote terminal is an
//! `AsyncWrite`, written while the session awaits [`FrameWire::written`].

use std::io::Write;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Begins a synchronized update: the terminal shows the frame at once and not in parts.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// Ends a synchronized update.
const END: &[u8] = b"\x1b[?2026l";
/// How long a remote terminal may take to accept a frame before the session gives it up.
const ACCEPT: Duration = Duration::from_secs(120);

/// The writing half of a remote terminal.
pub type RemoteOutput = Pin<Box<dyn AsyncWrite + Send>>;

/// The sender of frames to one terminal.
pub struct FrameWire {
    transport: Transport,
    in_flight: bool,
}

enum Transport {
    /// A thread writes; it reports for each frame whether the write succeeded.
    Thread { frames: mpsc::Sender<Vec<u8>>, written: mpsc::Receiver<bool> },
    /// [`FrameWire::written`] itself writes the rest of `bytes` from `at` on, until `limit`.
    Remote { out: RemoteOutput, bytes: Vec<u8>, at: usize, limit: Instant },
}

impl FrameWire {
    /// A wire to a file, written on a thread of its own.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (frames, mut queue) = mpsc::channel::<Vec<u8>>(1);
        let (report, written) = mpsc::channel(1);
        thread::Builder::new().name("wire".into()).spawn(move || {
            while let Some(frame) = queue.blocking_recv() {
                let ok = out.write_all(&frame).and_then(|()| out.flush()).is_ok();
                if report.blocking_send(ok).is_err() || !ok {
                    break;
                }
            }
        })?;
        Ok(Self { transport: Transport::Thread { frames, written }, in_flight: false })
    }

    /// A wire to a remote terminal. It makes progress only while [`FrameWire::written`] is awaited.
    #[must_use]
    pub fn remote(out: RemoteOutput) -> Self {
        let transport = Transport::Remote { out, bytes: Vec::new(), at: 0, limit: Instant::now() };
        Self { transport, in_flight: false }
    }

    /// Whether no frame is in flight, so that the next one can be sent.
    #[must_use]
    pub const fn ready(&self) -> bool {
        !self.in_flight
    }

    /// Sends a frame as one write inside a synchronized update; skips an empty one. Call it only
    /// when the wire is [`FrameWire::ready`].
    pub fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            self.send_raw([BEGIN, frame, END].concat());
        }
    }

    /// Sends bytes outside a frame (a bell, a clipboard). Drops them while a frame is in flight.
    pub fn send_raw(&mut self, sent: Vec<u8>) {
        if sent.is_empty() || self.in_flight {
            return;
        }
        self.in_flight = match &mut self.transport {
            Transport::Thread { frames, .. } => frames.try_send(sent).is_ok(),
            Transport::Remote { bytes, at, limit, .. } => {
                (*bytes, *at, *limit) = (sent, 0, Instant::now() + ACCEPT);
                true
            }
        };
    }

    /// Waits until the frame in flight is written; returns false once the terminal is closed or too
    /// slow. Pends forever while no frame is in flight. Cancelling the wait loses nothing.
    pub async fn written(&mut self) -> bool {
        if !self.in_flight {
            std::future::pending::<()>().await;
        }
        let ok = match &mut self.transport {
            Transport::Thread { written, .. } => written.recv().await.unwrap_or(false),
            Transport::Remote { out, bytes, at, limit } => loop {
                match timeout_at(*limit, out.write(&bytes[*at..])).await {
                    Ok(Ok(count)) if count > 0 => *at += count,
                    _ => break false,
                }
                if *at == bytes.len() {
                    break true;
                }
            },
        };
        self.in_flight = false;
        ok
    }

    /// Sends the last bytes after the frame in flight, and waits until they are written.
    pub async fn close(mut self, last: Vec<u8>) {
        if self.in_flight && !self.written().await {
            return;
        }
        self.send_raw(last);
        if self.in_flight {
            // A closed terminal needs no reset.
            let _ = self.written().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn wire_sends_a_whole_frame_though_its_wait_is_cancelled() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut wire = FrameWire::remote(Box::pin(ours));
        wire.send(b"a frame that is longer than what the link holds");
        let mut got = Vec::new();
        while !wire.ready() {
            let mut part = [0; 8];
            tokio::select! {
                biased;
                ok = wire.written() => assert!(ok),
                read = theirs.read(&mut part) => got.extend(&part[..read.expect("read")]),
            }
        }
        tokio::join!(wire.close(b"bye".to_vec()), async {
            theirs.read_to_end(&mut got).await.expect("the end");
        });
        let sent = [BEGIN, b"a frame that is longer than what the link holds", END, b"bye"];
        assert_eq!(got, sent.concat());
    }

    #[tokio::test]
    async fn wire_reports_a_closed_remote_terminal() {
        let (ours, theirs) = tokio::io::duplex(8);
        drop(theirs);
        let mut wire = FrameWire::remote(Box::pin(ours));
        wire.send(b"a frame");
        assert!(!wire.written().await);
    }
}
