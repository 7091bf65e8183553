//! Runs one turn here: the program and its tree, the lines both ways, and how it ended.

use std::time::Duration;

use futures::future::{Either, join, maybe_done, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::turn::{Over, TO_READ, TO_WRITE, Turn};
use super::wire::LINE_LIMIT;
use super::{Control, Conversation, Events, TurnSpec, conversation};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::process::output::read_line;
use crate::process::{Input, Spec, Supervisor};

/// How long a program may take to go once its turn has ended.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes that are read at once.
const READ: usize = 16 * 1024;
/// How long a write to the agent may take: it may have stopped reading.
const WRITE: Duration = Duration::from_secs(10);
/// How long the end of standard error is waited for once a program has gone.
const STDERR: Duration = Duration::from_secs(1);
/// The end of standard error that is told when a program fails.
const STDERR_TAIL: usize = 4 * 1024;

/// Runs a turn to its end; every event but the end goes to `events`. The whole tree of the
/// program is gone when this returns.
pub async fn run(
    supervisor: &Supervisor,
    spec: &TurnSpec,
    events: &Events,
    control: &mut mpsc::Receiver<Control>,
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
    events: &Events,
    control: &mut mpsc::Receiver<Control>,
) -> TurnEnd {
    let conversation = conversation(spec.speaks, &spec.ways);
    let Some((program, args)) = spec.command.split_first() else {
        return TurnEnd::NotStarted { why: "the agent's command is empty".into() };
    };
    let args = args.iter().cloned().chain(conversation.arguments(spec));
    let process = Spec {
        owner: spec.owner.clone(),
        program: program.into(),
        args: args.map(Into::into).collect(),
        cwd: spec.cwd.clone(),
        env: spec.env.clone(),
        leaves_children: false,
    };
    let mut started = match supervisor.start(&process, Input::Piped) {
        Ok(started) => started,
        Err(error) => {
            return TurnEnd::NotStarted { why: format!("{program}: {error}").into() };
        }
    };
    let child = &mut started.child;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return TurnEnd::NotStarted { why: "its pipes could not be made".into() };
    };
    let (lines, to_write) = mpsc::channel(TO_WRITE);
    let (tell, to_read) = mpsc::channel(TO_READ);
    let pipes = maybe_done(join(read(stdout, tell), write(stdin, to_write)));
    let tail = maybe_done(keep_tail(stderr));
    tokio::pin!(pipes, tail);
    let mut turn = Turn::new(conversation, spec, events, lines);
    let memory = || supervisor.usage(&spec.owner).memory;
    let served = turn.serve(&memory, to_read, control);
    let over = beside(join(pipes.as_mut(), tail.as_mut()), served).await;
    let conversation = turn.conversation;
    drop(turn.lines);
    let status = match over {
        Over::Stopped(_) => None,
        // It said that it is over, or closed its output; now it may go by itself.
        Over::Said(_) | Over::Eof => {
            let gone = timeout(GRACE, started.child.wait());
            beside(join(pipes.as_mut(), tail.as_mut()), gone).await.ok()
        }
    };
    let tail = match over {
        Over::Stopped(_) => String::new(),
        Over::Said(_) if !spec.stream_output => String::new(),
        Over::Said(_) | Over::Eof => {
            let whole = timeout(STDERR, tail.as_mut());
            // One that something else holds open is not waited for.
            let _ = beside(pipes.as_mut(), whole).await;
            tail.take_output().unwrap_or_default()
        }
    };
    if spec.stream_output {
        let code = status.as_ref().and_then(|status| status.as_ref().ok()?.code());
        let mut event = AgentEvent::Exited { code, stderr: tail.clone().into() };
        spec.redactor.event(&mut event);
        // Nobody may be listening any more.
        let _ = events.send(event).await;
    }
    match over {
        Over::Stopped(end) | Over::Said(end) => end,
        Over::Eof => closed(conversation.as_ref(), status.as_ref(), &tail),
    }
}

/// The output is over: how the program ended, in its own words where it has any.
fn closed(
    conversation: &dyn Conversation,
    status: Option<&std::io::Result<std::process::ExitStatus>>,
    tail: &str,
) -> TurnEnd {
    let code = status.and_then(|status| status.as_ref().ok()?.code());
    if let Some(known) = conversation.closed(code, tail) {
        return known;
    }
    let how = match status {
        Some(Ok(status)) => status.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "it closed its output and went on".into(),
    };
    match status {
        Some(_) if matches!(code, Some(126 | 127)) => TurnEnd::NotStarted { why: tail.into() },
        _ => {
            let why = format!("{how}, without saying that the turn is over; {}", tail.trim());
            TurnEnd::Crashed { why: why.into() }
        }
    }
}

/// Does `work` while `pipes` goes on, which may end before it and is taken up again later: a select
/// that drops a half-read line would lose it. In one task: what one of them hands to another need not
/// wait for a thread.
async fn beside<T>(pipes: impl Future, work: impl Future<Output = T>) -> T {
    tokio::pin!(pipes, work);
    match select(pipes, work).await {
        Either::Left((_, work)) => work.await,
        Either::Right((done, _)) => done,
    }
}

async fn read(stdout: ChildStdout, tell: mpsc::Sender<(Vec<u8>, bool)>) {
    let mut stdout = BufReader::with_capacity(READ, stdout);
    let mut line = Vec::new();
    while let Ok(Some(cut)) = read_line(&mut stdout, LINE_LIMIT, &mut line).await {
        if tell.send((std::mem::take(&mut line), cut)).await.is_err() {
            break;
        }
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut line) = lines.recv().await {
        line.push(b'\n');
        let write = async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        if !matches!(timeout(WRITE, write).await, Ok(Ok(()))) {
            break;
        }
    }
}

async fn keep_tail(mut stderr: ChildStderr) -> String {
    let mut tail = Vec::new();
    let mut buffer = vec![0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        let over = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..over);
    }
    String::from_utf8_lossy(&tail).into_owned()
}
