//! Runs a command to its end with a deadline: the output goes to a log file, its end stays in
//! memory.
//!
//! Test, CI and deploy commands run through [`Supervisor::run`]. [`read_line`] is the bounded line
//! reader of agents and of the attach protocol.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

use super::{Spec, StdinMode, Supervisor};
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::redact::StreamRedactor;
use crate::sandbox::cgroup::MemoryExceeded;

/// The bytes from the end of an output that stay in memory.
const TAIL: usize = 16 * 1024;
/// The bytes from the start of an output that are written to its log.
const LOG_LIMIT: usize = 16 * 1024 * 1024;
/// How long the pipes are read after the command has ended: a descendant may still hold them open.
const DRAIN: Duration = Duration::from_millis(500);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandOutcome {
    /// `None` after a signal or the deadline.
    pub code: Option<i32>,
    /// The end of both output streams, interleaved as they arrived.
    pub tail: Untrusted,
    /// The deadline passed, and the whole tree was ended.
    pub timed_out: bool,
    /// The kernel killed it because of its limit of memory.
    pub memory: Option<MemoryExceeded>,
}

impl CommandOutcome {
    /// The verdict of a deciding command: 0 is green and another code red. A command that can't be
    /// run, takes too long or is killed decides nothing.
    pub fn judgement(&self) -> Judgement {
        let verdict = match self.code {
            _ if self.memory.is_some() => Verdict::Unknown,
            Some(0) => Verdict::Green,
            Some(126 | 127) | None => Verdict::Unknown,
            Some(_) => Verdict::Red,
        };
        Judgement { log: self.tail.clone(), ..Judgement::new(verdict, self.summary()) }
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        if let Some(memory) = self.memory {
            return format!("exceeded its memory limit: {memory}");
        }
        match self.code {
            _ if self.timed_out => "took longer than its limit and was stopped".into(),
            Some(127) => "exit code 127: a program in it was not found".into(),
            Some(126) => "exit code 126: a program in it can't be executed".into(),
            Some(code) => format!("exit code {code}"),
            None => "was ended by a signal".into(),
        }
    }
}

impl Supervisor {
    /// Runs a command. Ends its whole tree at the deadline, and the rest of its tree after it.
    ///
    /// # Errors
    /// The command can't be started, or its log can't be written.
    pub(crate) async fn run(
        &self,
        spec: &Spec,
        log: &Path,
        deadline: Duration,
    ) -> io::Result<CommandOutcome> {
        let mut started = self.start(spec, StdinMode::Null)?;
        let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
        let mut sink = LogSink::create(log).await?;
        let mut timed_out = false;
        let (status, memory) = {
            let read = async {
                match (stdout, stderr) {
                    (Some(out), Some(err)) => sink.drain(out, err).await,
                    _ => Ok(()),
                }
            };
            tokio::pin!(read);
            let late = sleep(deadline);
            tokio::pin!(late);
            let mut closed = false;
            let status = loop {
                tokio::select! {
                    status = started.child.wait() => break Some(status?),
                    done = &mut read, if !closed => { done?; closed = true; }
                    () = &mut late => { timed_out = true; break None; }
                }
            };
            // The end removes the control group, and with it what the kernel counted.
            let memory = started.memory_exceeded();
            if timed_out {
                self.end(&spec.owner).await;
            }
            if !closed {
                match timeout(DRAIN, &mut read).await {
                    Ok(done) => done?,
                    Err(_) if spec.leaves_children => {}
                    Err(_) => {
                        self.end(&spec.owner).await;
                        timeout(DRAIN, &mut read).await.unwrap_or(Ok(()))?;
                    }
                }
            }
            (status, memory)
        };
        if timed_out {
            let _ = started.child.wait().await;
        } else if !spec.leaves_children {
            self.end(&spec.owner).await;
        }
        sink.finish().await?;
        let (code, tail) = (status.and_then(|status| status.code()), sink.tail());
        Ok(CommandOutcome { code, tail, timed_out, memory })
    }
}

/// Writes output to a log file, and keeps its end in memory; both without secrets.
struct LogSink {
    file: tokio::fs::File,
    /// One for each stream: their chunks interleave, and a secret doesn't.
    redactors: [StreamRedactor; 2],
    /// Bytes in the file, at most [`LOG_LIMIT`].
    written: usize,
    tail: Vec<u8>,
}

impl LogSink {
    async fn create(log: &Path) -> io::Result<Self> {
        if let Some(folder) = log.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = tokio::fs::File::create(log).await?;
        Ok(Self { file, redactors: Default::default(), written: 0, tail: Vec::new() })
    }

    async fn drain(
        &mut self,
        mut out: impl AsyncRead + Unpin,
        mut err: impl AsyncRead + Unpin,
    ) -> io::Result<()> {
        let (mut a, mut b) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        let (mut more_out, mut more_err) = (true, true);
        while more_out || more_err {
            tokio::select! {
                read = out.read(&mut a), if more_out => {
                    let read = read?;
                    more_out = read > 0;
                    let clean = self.redactors[0].push(&a[..read]);
                    self.write(&clean).await?;
                }
                read = err.read(&mut b), if more_err => {
                    let read = read?;
                    more_err = read > 0;
                    let clean = self.redactors[1].push(&b[..read]);
                    self.write(&clean).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes what the redactors hold back, and all of it to the file.
    async fn finish(&mut self) -> io::Result<()> {
        for stream in 0..self.redactors.len() {
            let clean = self.redactors[stream].finish();
            self.write(&clean).await?;
        }
        self.file.flush().await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = LOG_LIMIT.saturating_sub(self.written).min(bytes.len());
        self.file.write_all(&bytes[..room]).await?;
        self.written += room;
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > 2 * TAIL {
            let cut = self.tail.len() - TAIL;
            self.tail.drain(..cut);
        }
        Ok(())
    }

    fn tail(&self) -> Untrusted {
        Untrusted::new(String::from_utf8_lossy(&self.tail).into_owned()).tail(TAIL)
    }
}

/// Reads one line into `line`, without its newline and of at most `limit` bytes. Returns whether
/// bytes over the limit were read and dropped; `None` at the end of the stream.
pub(crate) async fn read_line<R: AsyncRead + Unpin>(
    from: &mut BufReader<R>,
    limit: usize,
    line: &mut Vec<u8>,
) -> io::Result<Option<bool>> {
    line.clear();
    let mut cut = false;
    let mut any = false;
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(any.then_some(cut));
        }
        any = true;
        let newline = memchr::memchr(b'\n', chunk);
        let part = &chunk[..newline.unwrap_or(chunk.len())];
        let room = limit.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(&part[..room]);
        cut |= room < part.len();
        let used = newline.map_or(chunk.len(), |at| at + 1);
        from.consume(used);
        if newline.is_some() {
            return Ok(Some(cut));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judgement_follows_the_exit_code_alone() {
        for (code, timed_out, verdict) in [
            (Some(0), false, Verdict::Green),
            (Some(1), false, Verdict::Red),
            (Some(127), false, Verdict::Unknown),
            (Some(126), false, Verdict::Unknown),
            (None, false, Verdict::Unknown),
            (None, true, Verdict::Unknown),
        ] {
            let outcome = CommandOutcome { code, tail: "".into(), timed_out, memory: None };
            assert_eq!(outcome.judgement().verdict, verdict, "{code:?}");
        }
    }

    #[test]
    fn command_above_its_memory_limit_decides_nothing_and_says_so() {
        let memory = Some(MemoryExceeded { used: 65 << 20, limit: 64 << 20 });
        for code in [None, Some(1), Some(137)] {
            let outcome = CommandOutcome { code, tail: "".into(), timed_out: false, memory };
            let judgement = outcome.judgement();
            assert_eq!(judgement.verdict, Verdict::Unknown, "{code:?}");
            assert_eq!(
                outcome.summary(),
                "exceeded its memory limit: its processes use 65 MiB; the limit is 64 MiB"
            );
        }
    }

    #[tokio::test]
    async fn read_line_cuts_a_long_line_and_keeps_the_next_one_whole() {
        let bytes = [vec![b'x'; 100_000], b"\nshort\nlast".to_vec()].concat();
        let mut from = BufReader::new(bytes.as_slice());
        let mut line = Vec::new();
        assert_eq!(read_line(&mut from, 10, &mut line).await.unwrap(), Some(true));
        assert_eq!(line, b"xxxxxxxxxx");
        assert_eq!(read_line(&mut from, 10, &mut line).await.unwrap(), Some(false));
        assert_eq!(line, b"short");
        assert_eq!(read_line(&mut from, 10, &mut line).await.unwrap(), Some(false));
        assert_eq!(line, b"last");
        assert_eq!(read_line(&mut from, 10, &mut line).await.unwrap(), None);
    }
}
