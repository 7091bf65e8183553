//! The input of this process's own terminal, as a stream for the cockpit and the dashboard.
//!
//! crossterm's own reader never returns from a terminal that was closed (every read is empty), and
//! it loses a resize that arrives together with a key. So this module reads the bytes itself and
//! hands them to the same parser as those of a remote terminal.

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;

use futures::StreamExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::event::{ESCAPE_TIMEOUT, InputParser, TerminalEvents};

/// The most bytes of one read.
const CHUNK: usize = 4096;

/// The result of one read that does not block.
enum ReadOutcome {
    Bytes(Vec<u8>),
    WouldBlock,
    Closed,
}

/// The events of standard input's terminal, or of the controlling terminal where standard input is
/// none, until it is closed. Dropping the stream releases the terminal.
///
/// # Errors
/// There is no terminal.
pub(crate) fn events() -> io::Result<TerminalEvents> {
    let stdin = io::stdin();
    let terminal = if stdin.is_terminal() {
        rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?
    } else {
        std::fs::File::open("/dev/tty")?.into()
    };
    #[allow(deprecated, reason = "the replacement is unsafe, and this descriptor is owned")]
    let terminal = AsyncFd::with_interest(terminal, Interest::READABLE)?;
    let start = (terminal, InputParser::default(), false);
    // The timeout lives in the stream, so that it survives a `select!` that drops `next()`.
    let batches = futures::stream::unfold(start, |(terminal, mut parser, open)| async move {
        let events = tokio::select! {
            chunk = chunk(&terminal) => parser.parse(&chunk?, true),
            () = sleep(ESCAPE_TIMEOUT), if open => {
                let events = parser.parse(b"", false);
                return Some((events, (terminal, parser, false)));
            }
        };
        Some((events, (terminal, parser, true)))
    });
    Ok(batches.flat_map(futures::stream::iter).boxed())
}

/// Waits for the next bytes; `None` once the terminal is closed.
async fn chunk(terminal: &AsyncFd<OwnedFd>) -> Option<Vec<u8>> {
    loop {
        let mut ready = terminal.readable().await.ok()?;
        match read_now(terminal.get_ref()) {
            ReadOutcome::Bytes(bytes) => return Some(bytes),
            ReadOutcome::WouldBlock => ready.clear_ready(),
            ReadOutcome::Closed => return None,
        }
    }
}

/// Reads available bytes. The terminal is shared with the process that started us, so it must stay
/// in blocking mode: a poll goes first.
fn read_now(terminal: &OwnedFd) -> ReadOutcome {
    let mut polled = [PollFd::new(terminal, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut polled, Some(&at_once)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return ReadOutcome::WouldBlock,
        Ok(_) if polled[0].revents().contains(PollFlags::IN) => {}
        Ok(_) | Err(_) => return ReadOutcome::Closed,
    }
    let mut buffer = vec![0; CHUNK];
    match rustix::io::read(terminal, &mut buffer) {
        Ok(0) => ReadOutcome::Closed,
        Ok(read) => {
            buffer.truncate(read);
            ReadOutcome::Bytes(buffer)
        }
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => ReadOutcome::WouldBlock,
        Err(_) => ReadOutcome::Closed,
    }
}
