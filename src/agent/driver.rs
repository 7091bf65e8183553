//! Runs one turn in a process of this machine.
//!
//! [`run`] starts the agent's program, connects its pipes to a [`TurnLoop`] and derives how the
//! turn ended. The runtime calls it for local turns, and a worker (`crate::executor::worker`) for a
//! turn in its pod.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, join, maybe_done, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::screen::AgentScreen;
use super::turn::{AgentLine, TO_READ, TO_WRITE, TurnHost, TurnLoop, TurnOutcome};
use super::wire::LINE_LIMIT;
use super::{AgentProtocol, EventSender, TurnControl, TurnSpec, protocol_for};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::process::output::read_line;
use crate::process::{Spec, StdinMode, Supervisor, Usage};

/// How long the program may take to exit after its turn has ended.
const EXIT_GRACE: Duration = Duration::from_secs(5);
/// How long the output of a program that has exited is read, if something else holds it open.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// The size of the read buffer for standard output, in bytes.
const READ_BUFFER: usize = 16 * 1024;
/// The timeout of one write to the agent, which may have stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the end of standard error after the program has exited.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of the end of standard error a failure reports, in bytes.
const STDERR_TAIL: usize = 4 * 1024;

/// Runs a turn to its end and returns how it ended; `events` receives all other events. No process
/// of the turn is left when this returns.
pub(crate) async fn run(
    supervisor: &Supervisor,
    spec: &TurnSpec,
    events: &EventSender,
    control: &mut mpsc::Receiver<TurnControl>,
) -> TurnEnd {
    let mut end = run_program(supervisor, spec, events, control).await;
    supervisor.end_rest(&spec.owner).await;
    let mut event = AgentEvent::TurnEnd(end.clone());
    spec.redactor.event(&mut event);
    if let AgentEvent::TurnEnd(clean) = event {
        end = clean;
    }
    end
}

async fn run_program(
    supervisor: &Supervisor,
    spec: &TurnSpec,
    events: &EventSender,
    control: &mut mpsc::Receiver<TurnControl>,
) -> TurnEnd {
    let protocol = protocol_for(spec.speaks, &spec.acp);
    let Some((program, args)) = spec.command.split_first() else {
        return TurnEnd::NotStarted { why: "the configured command of the agent is empty".into() };
    };
    let args = args.iter().cloned().chain(protocol.arguments(spec));
    let process = Spec {
        owner: spec.owner.clone(),
        program: program.into(),
        args: args.map(Into::into).collect(),
        cwd: spec.cwd.clone(),
        env: spec.env.clone(),
        leaves_children: false,
        sandbox: spec.sandbox.clone(),
    };
    let mut started = match supervisor.start(&process, StdinMode::Piped) {
        Ok(started) => started,
        Err(error) => {
            return TurnEnd::NotStarted { why: format!("start {program}: {error}").into() };
        }
    };
    let child = &mut started.child;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return TurnEnd::NotStarted {
            why: "afk could not open the pipes of the agent's program".into(),
        };
    };
    let (lines, to_write) = mpsc::channel(TO_WRITE);
    let (from_agent, to_read) = mpsc::channel(TO_READ);
    let lines_read = AtomicU64::new(0);
    let pipes = maybe_done(join(read(stdout, from_agent, &lines_read), write(stdin, to_write)));
    let stderr_tail = Mutex::new(Vec::new());
    let tail = maybe_done(keep_tail(stderr, &stderr_tail));
    tokio::pin!(pipes, tail);
    let mut turn = TurnLoop::new(protocol, spec, events, lines);
    let host = ProcessHost { supervisor, owner: &spec.owner, stderr: &stderr_tail };
    let turn_ended = Box::pin(turn.run(&host, to_read, control));
    // What the program left behind may hold its output open. The end of the program is the end.
    let exited = async {
        // An error means that the exit code is lost, and not that the program runs on.
        let _ = child.wait().await;
        let mut before = None;
        while before != Some(lines_read.load(Ordering::Relaxed)) {
            before = Some(lines_read.load(Ordering::Relaxed));
            sleep(OUTPUT_GRACE).await;
        }
    };
    let turn_ended = async {
        tokio::pin!(exited);
        match select(turn_ended, exited).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => TurnOutcome::OutputClosed,
        }
    };
    let outcome = with_pipes(join(pipes.as_mut(), tail.as_mut()), turn_ended).await;
    turn.finish().await;
    let protocol = turn.protocol;
    drop(turn.lines);
    let status = match outcome {
        TurnOutcome::Stopped(_) => None,
        // The turn has ended, or the output closed: the program gets time to exit by itself.
        TurnOutcome::Reported(_) | TurnOutcome::OutputClosed => {
            let exited = timeout(EXIT_GRACE, started.child.wait());
            with_pipes(join(pipes.as_mut(), tail.as_mut()), exited).await.ok()
        }
    };
    let tail = match outcome {
        TurnOutcome::Stopped(_) => String::new(),
        TurnOutcome::Reported(_) if !spec.stream_output => String::new(),
        TurnOutcome::Reported(_) | TurnOutcome::OutputClosed => {
            let whole = timeout(STDERR_TIMEOUT, tail.as_mut());
            // A child process that outlives the program may hold standard error open.
            let _ = with_pipes(pipes.as_mut(), whole).await;
            // Only the end is there, which may begin within a secret.
            spec.redactor.clean_cut(&host.stderr())
        }
    };
    if spec.stream_output {
        let code = status.as_ref().and_then(|status| status.as_ref().ok()?.code());
        let event = AgentEvent::Exited { code, stderr: tail.clone().into() };
        // The receiver may be gone during a shutdown.
        let _ = events.send(event).await;
    }
    match (outcome, started.memory_exceeded()) {
        (TurnOutcome::Stopped(end) | TurnOutcome::Reported(end), _) => end,
        (TurnOutcome::OutputClosed, Some(memory)) => {
            TurnEnd::OutOfMemory { why: memory.to_string().into() }
        }
        (TurnOutcome::OutputClosed, None) => end_at_exit(protocol.as_ref(), status.as_ref(), &tail),
    }
}

/// Derives the turn's end after the output closed without one: the protocol decides first, then
/// the exit status.
fn end_at_exit(
    protocol: &dyn AgentProtocol,
    status: Option<&std::io::Result<std::process::ExitStatus>>,
    tail: &str,
) -> TurnEnd {
    let code = status.and_then(|status| status.as_ref().ok()?.code());
    if let Some(end) = protocol.end_at_exit(code, tail) {
        return end;
    }
    if let Some(dialog @ (AgentScreen::Login | AgentScreen::Trust)) = AgentScreen::in_text(tail) {
        return dialog.end();
    }
    let how = match status {
        Some(Ok(status)) => status.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "the agent closed its output and kept running".into(),
    };
    match status {
        Some(_) if matches!(code, Some(126 | 127)) => TurnEnd::NotStarted { why: tail.into() },
        _ => {
            let why = format!("{how}, without reporting the end of the turn; {}", tail.trim());
            TurnEnd::Crashed { why: why.into() }
        }
    }
}

/// Awaits `work` while polling `pipes`, which may finish first and may be polled again later.
///
/// `tokio::select!` would drop `pipes` with a half-read line. Both run in one task, so that passing
/// a line on doesn't wait for another thread.
async fn with_pipes<T>(pipes: impl Future, work: impl Future<Output = T>) -> T {
    tokio::pin!(pipes, work);
    match select(pipes, work).await {
        Either::Left((_, work)) => work.await,
        Either::Right((done, _)) => done,
    }
}

async fn read(stdout: ChildStdout, lines: mpsc::Sender<AgentLine>, count: &AtomicU64) {
    let mut stdout = BufReader::with_capacity(READ_BUFFER, stdout);
    let mut line = Vec::new();
    while let Ok(Some(cut)) = read_line(&mut stdout, LINE_LIMIT, &mut line).await {
        let line = AgentLine { bytes: std::mem::take(&mut line), cut };
        if lines.send(line).await.is_err() {
            break;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut line) = lines.recv().await {
        line.push(b'\n');
        let write = async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        if !matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(()))) {
            break;
        }
    }
}

/// The process of an agent on this machine.
struct ProcessHost<'a> {
    supervisor: &'a Supervisor,
    owner: &'a str,
    /// The end of its standard error.
    stderr: &'a Mutex<Vec<u8>>,
}

impl TurnHost for ProcessHost<'_> {
    fn usage(&self) -> Usage {
        self.supervisor.usage(self.owner)
    }

    fn stderr(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).into_owned()
    }
}

/// Drains standard error and keeps its last [`STDERR_TAIL`] bytes.
async fn keep_tail(mut stderr: ChildStderr, tail: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&buffer[..read]);
        let excess = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
    }
}
