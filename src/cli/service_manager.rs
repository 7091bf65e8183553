//! Reports to systemd (`Type=notify`): afk is ready, reads its configuration again, ends, and lives. Without
//! a service manager nothing happens.
//!
//! The watchdog hears of afk only while the event loop answers, so that systemd starts a hung afk again.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::runtime::Handle;

fn notify(states: &[NotifyState<'_>]) {
    // Without `NOTIFY_SOCKET` this does nothing; an error leaves systemd without a report, as a missing
    // service manager does.
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "the service manager can't be reached");
    }
}

/// afk serves; `status` is what `systemctl status` shows.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// afk reads its configuration again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// afk ends.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells the watchdog that the event loop answers, until the runtime ends.
pub(super) fn start_watchdog(handle: &Handle) -> Option<JoinHandle<()>> {
    let mut limit = 0;
    if !sd_notify::watchdog_enabled(false, &mut limit) {
        return None;
    }
    // Three reports in the time of one: a slow answer is no hang.
    let interval = Duration::from_micros(limit / 3).max(Duration::from_millis(10));
    let handle = handle.clone();
    Some(tokio::spawn(async move {
        loop {
            tokio::select! {
                () = handle.ended() => return,
                state = handle.loop_state() => if state.is_some() {
                    notify(&[NotifyState::Watchdog]);
                },
            }
            tokio::time::sleep(interval).await;
        }
    }))
}
