//! The signals that end or stop a cockpit, after which the terminal must be as it was.

use std::io;
use std::time::Duration;

use rustix::process::{Signal as Number, kill_current_process_group};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::term::wire::FrameWire;

/// Receives every signal that ends a program at a terminal and can be received.
pub(super) struct TerminalSignals([Signal; 5]);

impl TerminalSignals {
    pub(super) fn new() -> io::Result<Self> {
        let abort = SignalKind::from_raw(Number::ABORT.as_raw());
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
            signal(abort)?,
        ]))
    }

    /// Waits for one of them.
    pub(super) async fn received(&mut self) {
        let [term, hup, int, quit, abort] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = hup.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
            _ = abort.recv() => {}
        }
    }
}

/// How long the signal that continues this process may take to arrive after it.
const CONTINUES: Duration = Duration::from_secs(1);

/// How long a frame on its way to this terminal may take.
const FRAME: Duration = Duration::from_millis(500);

/// Waits until the last frame was written, so that none follows the restored terminal.
pub(super) async fn settle(wire: &mut FrameWire) {
    let written = async { while !wire.ready() && wire.written().await {} };
    let _ = tokio::time::timeout(FRAME, written).await;
}

/// Receives the requests of others to stop this process, as `kill -TSTP` sends them.
pub(super) fn stop_requests() -> io::Result<Signal> {
    signal(SignalKind::from_raw(Number::TSTP.as_raw()))
}

/// Stops this process and those of its group, as Ctrl-Z does in any program, until the shell continues
/// them. The terminal must be restored before.
pub(super) async fn stop() -> io::Result<()> {
    let mut continued = signal(SignalKind::from_raw(Number::CONT.as_raw()))?;
    kill_current_process_group(Number::STOP)?;
    // The stop can reach this thread a moment later: the terminal must not be taken before.
    let _ = tokio::time::timeout(CONTINUES, continued.recv()).await;
    Ok(())
}
