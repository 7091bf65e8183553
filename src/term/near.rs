//! The keys of this process's own terminal.
//!
//! crossterm's own reader never comes back from a terminal that was closed (it reads nothing for
//! ever), and loses a new size that comes in one instant with a key. So the bytes are read here, and
//! understood as those of a far terminal are.

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;

use futures::StreamExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::far::{Bytes, ESCAPE, Events};

/// Read at once.
const CHUNK: usize = 4096;

/// What asking the terminal led to.
enum Found {
    Bytes(Vec<u8>),
    Nothing,
    Gone,
}

/// What standard input's terminal sends, or the controlling one where that is none, until it is gone.
/// Once dropped, whoever comes next has it.
///
/// # Errors
/// Where there is no terminal.
pub fn events() -> io::Result<Events> {
    let stdin = io::stdin();
    let terminal = if stdin.is_terminal() {
        rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?
    } else {
        std::fs::File::open("/dev/tty")?.into()
    };
    // Its successor is an unsafe call, for what may give its descriptor away; this one owns it.
    #[allow(deprecated)]
    let terminal = AsyncFd::with_interest(terminal, Interest::READABLE)?;
    let begun = (terminal, Bytes::default(), false);
    // A stream keeps its wait for the rest of a key while others are waited for beside it.
    let told = futures::stream::unfold(begun, |(terminal, mut bytes, open)| async move {
        let events = tokio::select! {
            chunk = chunk(&terminal) => bytes.take(&chunk?, true),
            () = sleep(ESCAPE), if open => {
                let events = bytes.take(b"", false);
                return Some((events, (terminal, bytes, false)));
            }
        };
        Some((events, (terminal, bytes, true)))
    });
    Ok(told.flat_map(futures::stream::iter).boxed())
}

/// The next bytes; none once the terminal is gone.
async fn chunk(terminal: &AsyncFd<OwnedFd>) -> Option<Vec<u8>> {
    loop {
        let mut ready = terminal.readable().await.ok()?;
        match read_now(terminal.get_ref()) {
            Found::Bytes(bytes) => return Some(bytes),
            Found::Nothing => ready.clear_ready(),
            Found::Gone => return None,
        }
    }
}

/// Reads what is there. The terminal is shared with whoever began us, so that it stays one whose
/// reads wait: it is asked first.
fn read_now(terminal: &OwnedFd) -> Found {
    let mut asked = [PollFd::new(terminal, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut asked, Some(&at_once)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Found::Nothing,
        Ok(_) if asked[0].revents().contains(PollFlags::IN) => {}
        Ok(_) | Err(_) => return Found::Gone,
    }
    let mut buffer = vec![0; CHUNK];
    match rustix::io::read(terminal, &mut buffer) {
        Ok(0) => Found::Gone,
        Ok(read) => {
            buffer.truncate(read);
            Found::Bytes(buffer)
        }
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Found::Nothing,
        Err(_) => Found::Gone,
    }
}
