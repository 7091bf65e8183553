//! The wire to a terminal: one frame in flight. The next is made only after the last was taken.

use std::io::Write;
use std::thread;

use tokio::sync::mpsc;

/// Begins a synchronized update.
const BEGIN: &[u8] = b"\x1b[?2026h";
/// Ends it.
const END: &[u8] = b"\x1b[?2026l";

/// See the module.
#[derive(Debug)]
pub struct Wire {
    frames: mpsc::Sender<Vec<u8>>,
    taken: mpsc::Receiver<bool>,
    in_flight: bool,
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
        Ok(Self { frames, taken, in_flight: false })
    }

    /// Nothing is in flight.
    #[must_use]
    pub const fn ready(&self) -> bool {
        !self.in_flight
    }

    /// Sends a frame as one write inside a synchronized update. An empty one is not sent. Only
    /// when [`Wire::ready`].
    pub fn send(&mut self, frame: &[u8]) {
        if frame.is_empty() || self.in_flight {
            return;
        }
        let bytes = [BEGIN, frame, END].concat();
        self.in_flight = self.frames.try_send(bytes).is_ok();
    }

    /// Sends bytes that are no frame (a bell, a clipboard). Dropped if something is in flight.
    pub fn send_raw(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.in_flight {
            self.in_flight = self.frames.try_send(bytes).is_ok();
        }
    }

    /// Waits until the frame in flight was taken; false once the terminal is gone. Waits for ever
    /// while nothing is in flight.
    pub async fn taken(&mut self) -> bool {
        if !self.in_flight {
            std::future::pending::<()>().await;
        }
        let ok = self.taken.recv().await.unwrap_or(false);
        self.in_flight = false;
        ok
    }
}
