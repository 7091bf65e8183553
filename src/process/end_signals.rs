//! The signals that ask afk to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks for the end, or for a new reading of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndSignal {
    Terminate,
    Interrupt,
    /// The terminal is gone. A service reads its configuration again.
    HangUp,
}

impl EndSignal {
    /// The name of the signal.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::HangUp => "SIGHUP",
        }
    }
}

/// Receives the signals that ask for the end. While it exists, none of them has its default effect,
/// and as process 1 of a container, where the kernel drops signals without a handler, all arrive.
#[derive(Debug)]
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl EndSignals {
    /// # Errors
    /// The kernel refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> EndSignal {
        tokio::select! {
            _ = self.terminate.recv() => EndSignal::Terminate,
            _ = self.interrupt.recv() => EndSignal::Interrupt,
            _ = self.hang_up.recv() => EndSignal::HangUp,
        }
    }

    /// Waits for a signal that asks for the end of a service, which outlives its terminal.
    pub(crate) async fn end(&mut self) -> EndSignal {
        loop {
            match self.next().await {
                EndSignal::HangUp => {}
                signal => return signal,
            }
        }
    }
}
