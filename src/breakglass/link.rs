//! Watches whether a host still answers while a shell on it is open.
//!
//! A half-open link looks like a shell that prints nothing. SSH's own keepalives end it after three
//! intervals; until then this watch marks it, so that an operator leaves early. `shell::relay` runs it,
//! and `runtime::breakglass::console` passes the marks to the client.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use russh::client::{Handle, Handler};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::lock::LockExt;

/// The longest silence before the host is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// The longest that its answer may take before the link is marked.
const ANSWER: Duration = Duration::from_secs(3);
/// The shortest pause between two checks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// The link of a shell. The attach protocol carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The shell is not open yet; the step, for a person.
    Opening(String),
    /// The host answers in time.
    Live,
    /// The host did not answer in time. The link is not given up yet.
    Silent {
        /// Seconds since the host's last sign of life.
        seconds: u64,
    },
}

/// The signs of life of a host.
#[derive(Debug)]
pub(crate) struct LinkWatch<'a> {
    state: &'a watch::Sender<LinkState>,
    heard: Mutex<Instant>,
    /// The client takes no output, so that nothing is read from the host.
    held_back: AtomicBool,
}

impl<'a> LinkWatch<'a> {
    /// A watch that reports to `state`.
    pub(super) fn new(state: &'a watch::Sender<LinkState>) -> Self {
        Self { state, heard: Mutex::new(Instant::now()), held_back: AtomicBool::new(false) }
    }

    /// The host sent something.
    pub(super) fn heard(&self) {
        *self.heard.locked() = Instant::now();
        self.set(LinkState::Live);
    }

    /// Waits for a client that takes output slowly; the host's answers can't be read meanwhile.
    pub(super) async fn hold_back<T>(&self, send: impl Future<Output = T>) -> T {
        self.held_back.store(true, Ordering::Relaxed);
        let sent = send.await;
        self.held_back.store(false, Ordering::Relaxed);
        self.heard();
        sent
    }

    fn set(&self, state: LinkState) {
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
    }

    fn silence(&self) -> Duration {
        if self.held_back.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.heard.locked().elapsed()
    }

    /// Asks a silent host for a sign of life, and marks the link while none comes. Where keepalives are
    /// sent more often, the host is asked as often.
    pub(super) async fn follow<H: Handler>(
        &self,
        host: &Handle<H>,
        keepalive: Duration,
    ) -> Infallible {
        let (ask_after, answer) = (keepalive.min(ASK_AFTER), keepalive.min(ANSWER));
        loop {
            let left = ask_after.saturating_sub(self.silence());
            if !left.is_zero() {
                sleep(left.max(SHORTEST_PAUSE)).await;
                continue;
            }
            let ping = host.send_ping();
            tokio::pin!(ping);
            while timeout(answer, &mut ping).await.is_err() {
                let silence = self.silence();
                if silence >= ask_after {
                    self.set(LinkState::Silent { seconds: silence.as_secs() });
                }
            }
            // A link that is closed is reported by the shell's channel.
            self.heard();
        }
    }
}
