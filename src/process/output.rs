//! Running a command to its end: its output in a log file, the end of it in memory, a deadline.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

use super::{Input, Spec, Supervisor};
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{Judgement, Verdict};

/// The end of an output that is kept in memory, in bytes.
const TAIL: usize = 16 * 1024;
/// What of an output is written to its log, in bytes.
const LOG_LIMIT: usize = 16 * 1024 * 1024;
/// How long a pipe is read after its command has ended: something may still hold it.
const DRAIN: Duration = Duration::from_millis(500);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none for a signal or a deadline.
    pub code: Option<i32>,
    /// The end of what it printed, both streams as they came.
    pub tail: Untrusted,
    /// The deadline passed and its tree was ended.
    pub timed_out: bool,
}

impl Finished {
    /// What the end of a deciding command means: 0 is green, another code red; a command that
    /// can't be run, took too long or was killed says nothing.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        let verdict = match self.code {
            Some(0) => Verdict::Green,
            Some(126 | 127) | None => Verdict::Unknown,
            Some(_) => Verdict::Red,
        };
        Judgement { log: self.tail.clone(), ..Judgement::new(verdict, self.summary()) }
    }

    /// In a line, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.code {
            _ if self.timed_out => "took longer than its limit and was ended".into(),
            Some(127) => "ended with 127: a program in it isn't there".into(),
            Some(126) => "ended with 126: a program in it can't be run".into(),
            Some(code) => format!("ended with {code}"),
            None => "was ended by a signal".into(),
        }
    }
}

impl Supervisor {
    /// Runs a command; ends its whole tree at the deadline, and what it left behind at its end.
    ///
    /// # Errors
    /// Where it can't be started or its log can't be written.
    pub async fn run(&self, spec: &Spec, log: &Path, deadline: Duration) -> io::Result<Finished> {
        let mut started = self.start(spec, Input::Nothing)?;
        let (stdout, stderr) = (started.child.stdout.take(), started.child.stderr.take());
        let mut sink = Sink::create(log).await?;
        let mut timed_out = false;
        let status = {
            let read = async {
                match (stdout, stderr) {
                    (Some(out), Some(err)) => sink.drain(out, err).await,
                    _ => Ok(()),
                }
            };
            tokio::pin!(read);
            let over = sleep(deadline);
            tokio::pin!(over);
            let mut closed = false;
            let status = loop {
                tokio::select! {
                    status = started.child.wait() => break Some(status?),
                    done = &mut read, if !closed => { done?; closed = true; }
                    () = &mut over => { timed_out = true; break None; }
                }
            };
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
            status
        };
        if timed_out {
            let _ = started.child.wait().await;
        } else if !spec.leaves_children {
            self.end(&spec.owner).await;
        }
        sink.file.flush().await?;
        Ok(Finished { code: status.and_then(|s| s.code()), tail: sink.tail(), timed_out })
    }
}

/// Where output goes.
struct Sink {
    file: tokio::fs::File,
    written: usize,
    tail: Vec<u8>,
}

impl Sink {
    async fn create(log: &Path) -> io::Result<Self> {
        if let Some(folder) = log.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = tokio::fs::File::create(log).await?;
        Ok(Self { file, written: 0, tail: Vec::new() })
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
                    self.take(&a[..read]).await?;
                }
                read = err.read(&mut b), if more_err => {
                    let read = read?;
                    more_err = read > 0;
                    self.take(&b[..read]).await?;
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
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

/// Reads one line of at most `limit` bytes into `line`, without its end. What is over the limit
/// is read and dropped; then `cut` is true. None at the end of the stream.
///
/// # Errors
/// Where the stream can't be read.
pub async fn read_line<R: AsyncRead + Unpin>(
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
    fn only_an_exit_code_says_something() {
        for (code, timed_out, verdict) in [
            (Some(0), false, Verdict::Green),
            (Some(1), false, Verdict::Red),
            (Some(127), false, Verdict::Unknown),
            (Some(126), false, Verdict::Unknown),
            (None, false, Verdict::Unknown),
            (None, true, Verdict::Unknown),
        ] {
            let finished = Finished { code, tail: "".into(), timed_out };
            assert_eq!(finished.judgement().verdict, verdict, "{code:?}");
        }
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
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
