//! The wire to a terminal: one frame in flight. The next is made only after the last was taken.

use std::io::Write;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Begins a synchronized update.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// Ends it.
const END: &[u8] = b"\x1b[?2026l";
/// How long a far terminal may take to take a frame before it is gone.
const FRAME: Duration = Duration::from_secs(120);

/// The way to a far terminal.
pub type Out = Pin<Box<dyn AsyncWrite + Send>>;

/// See the module.
pub struct Wire {
    way: Way,
    in_flight: bool,
}

enum Way {
    /// A file, written on a thread of its own, since a write to a terminal can block.
    Thread { frames: mpsc::Sender<Vec<u8>>, taken: mpsc::Receiver<bool> },
    /// Something that makes its writer wait: written by who asks whether it was taken.
    Far { out: Out, bytes: Vec<u8>, at: usize, limit: Instant },
}

impl Wire {
    /// A wire to `out`, written on a thread of its own.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn start(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (frames, mut queue) = mpsc::channel::<Vec<u8>>(1);
        let (told, taken) = mpsc::channel(1);
        thread::Builder::new().name("wire".into()).spawn(move || {
            while let Some(frame) = queue.blocking_recv() {
                let ok = out.write_all(&frame).and_then(|()| out.flush()).is_ok();
                if told.blocking_send(ok).is_err() || !ok {
                    break;
                }
            }
        })?;
        Ok(Self { way: Way::Thread { frames, taken }, in_flight: false })
    }

    /// A wire to a far terminal, without a thread: what is in flight goes on while
    /// [`Wire::taken`] is waited for.
    #[must_use]
    pub fn far(out: Out) -> Self {
        let way = Way::Far { out, bytes: Vec::new(), at: 0, limit: Instant::now() };
        Self { way, in_flight: false }
    }

    /// Nothing is in flight.
    #[must_use]
    pub const fn ready(&self) -> bool {
        !self.in_flight
    }

    /// Sends a frame as one write inside a synchronized update. An empty one is not sent. Only
    /// when [`Wire::ready`].
    pub fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            self.send_raw([BEGIN, frame, END].concat());
        }
    }

    /// Sends bytes that are no frame (a bell, a clipboard). Dropped if something is in flight.
    pub fn send_raw(&mut self, sent: Vec<u8>) {
        if sent.is_empty() || self.in_flight {
            return;
        }
        self.in_flight = match &mut self.way {
            Way::Thread { frames, .. } => frames.try_send(sent).is_ok(),
            Way::Far { bytes, at, limit, .. } => {
                (*bytes, *at, *limit) = (sent, 0, Instant::now() + FRAME);
                true
            }
        };
    }

    /// Waits until the frame in flight was taken; false once the terminal is gone. Waits for ever
    /// while nothing is in flight. Nothing is lost where the wait is given up.
    pub async fn taken(&mut self) -> bool {
        if !self.in_flight {
            std::future::pending::<()>().await;
        }
        let ok = match &mut self.way {
            Way::Thread { taken, .. } => taken.recv().await.unwrap_or(false),
            Way::Far { out, bytes, at, limit } => loop {
                match timeout_at(*limit, out.write(&bytes[*at..])).await {
                    Ok(Ok(written)) if written > 0 => *at += written,
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

    /// Sends the last bytes, after what is in flight, and waits until they are taken.
    pub async fn close(mut self, last: Vec<u8>) {
        if self.in_flight && !self.taken().await {
            return;
        }
        self.send_raw(last);
        if self.in_flight {
            // A terminal that is gone needs no last words.
            let _ = self.taken().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_frame_to_a_far_terminal_is_whole_though_its_wait_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut wire = Wire::far(Box::pin(ours));
        wire.send(b"a frame that is longer than what the link holds");
        let mut got = Vec::new();
        while !wire.ready() {
            let mut part = [0; 8];
            tokio::select! {
                biased;
                ok = wire.taken() => assert!(ok),
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
    async fn a_far_terminal_that_is_gone_is_told() {
        let (ours, theirs) = tokio::io::duplex(8);
        drop(theirs);
        let mut wire = Wire::far(Box::pin(ours));
        wire.send(b"a frame");
        assert!(!wire.taken().await);
    }
}
