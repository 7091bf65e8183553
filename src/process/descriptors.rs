//! File descriptors: afk takes as many as the system grants, gives its children what it got itself,
//! and keeps some free.
//!
//! A flood of connections must not take the descriptors that breakglass and the journal need. The
//! kernel always hands out the lowest free number, so the number of a new descriptor shows how many
//! are left, and a caller gives it back where that is below the caller's [`Reserve`]. Breakglass and
//! the journal don't ask.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::time::{Instant, sleep};

/// The most descriptors that afk asks for. Some containers grant a billion.
const MOST: u64 = 1024 * 1024;
/// The longest that a run waits for descriptors.
const ROOM_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a run that waits looks again.
const ROOM_CHECK: Duration = Duration::from_millis(200);

/// The limits before [`raise_limit`].
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to the hard one, for a runtime in a process of its own. A
/// program that becomes another one, or starts a runtime in the background, must not call it: the raised
/// limit would count as the original one there.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.map_or(MOST, |hard| hard.min(MOST));
    if before.current.is_some_and(|soft| soft < wanted)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..before }).is_ok()
    {
        // The first call counts.
        let _ = BEFORE.set(before);
    }
}

/// The soft limit that afk was started with, if it was raised.
pub(super) fn original_limit() -> Option<u64> {
    BEFORE.get().and_then(|before| before.current)
}

/// Lowers the soft limit of this process, which becomes or starts a program.
pub(super) fn lower_limit(soft: u64) {
    let now = getrlimit(Resource::Nofile);
    // A failure leaves the raised limit, which most programs don't notice.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..now });
}

/// Gives a child the soft limit that afk was started with: programs that use `select` break above
/// 1024 descriptors, and some close every possible descriptor when they start. The limit arrives
/// within microseconds of the start, while the child is still being loaded; the launcher lowers its
/// own, and needs no luck.
pub(crate) fn restore_limit(child: Option<u32>) {
    let pid = child.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let (Some(before), Some(pid)) = (BEFORE.get(), pid) {
        // A child that has ended needs no limit.
        let _ = prlimit(Some(pid), Resource::Nofile, *before);
    }
}

/// Descriptors that a caller leaves free for others. Each is a share of the limit, and no more than
/// its largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// Of connections from the network: runs, operators, breakglass and the journal go before.
    Network,
    /// Of runs: operators, breakglass and the journal go before.
    Runs,
    /// Of operators on this machine: breakglass and the journal go before.
    Operators,
}

impl Reserve {
    /// The share of the limit as a divisor, and the largest number.
    const fn size(self) -> (u64, u64) {
        match self {
            Self::Network => (4, 256),
            Self::Runs => (8, 128),
            Self::Operators => (16, 32),
        }
    }

    /// Whether the reserve is still free after a descriptor was opened.
    pub(crate) fn is_free_beyond(self, opened: &impl AsFd) -> bool {
        let Some(limit) = getrlimit(Resource::Nofile).current else { return true };
        let (share, most) = self.size();
        let reserve = (limit / share).min(most);
        let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or(0);
        number < limit.saturating_sub(reserve)
    }

    fn is_free(self) -> bool {
        // A copy of any descriptor gets the lowest free number.
        rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 0)
            .is_ok_and(|copy| self.is_free_beyond(&copy))
    }
}

/// Waits until a run may open descriptors.
///
/// # Errors
/// A line for a person where there were none for a minute.
pub(crate) async fn wait_for_room() -> Result<(), String> {
    let end = Instant::now() + ROOM_TIMEOUT;
    while !Reserve::Runs.is_free() {
        if Instant::now() > end {
            let limit = getrlimit(Resource::Nofile).current.unwrap_or_default();
            return Err(format!(
                "afk is short of file descriptors (its limit is {limit}): raise the limit with \
                 `ulimit -n`, or end some of its clients"
            ));
        }
        sleep(ROOM_CHECK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_shrink_in_the_order_of_who_goes_first() {
        // The number of any descriptor of this test is far from its limit.
        let file = std::fs::File::open("/dev/null").unwrap();
        for reserve in [Reserve::Network, Reserve::Runs, Reserve::Operators] {
            assert!(reserve.is_free_beyond(&file), "{reserve:?}");
        }
        for limit in [64, 256, 1024, 1 << 20] {
            let of = |reserve: Reserve| {
                let (share, most) = reserve.size();
                u64::min(limit / share, most)
            };
            let (network, runs) = (of(Reserve::Network), of(Reserve::Runs));
            assert!(network > runs && runs > of(Reserve::Operators), "{limit}");
        }
    }
}
