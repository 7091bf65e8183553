//! The `command` agent: any program that reads its prompt and speaks JSON lines.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::wire::{LINE_LIMIT, ToAgent, translate};
use super::{Control, Events, TurnSpec};
use crate::core::agent_event::{AgentEvent, TurnEnd};
use crate::core::approval::Answer;
use crate::core::untrusted::Untrusted;
use crate::process::output::read_line;
use crate::process::{Spec, Started, Supervisor};

/// How long a program may take to go once it said that its turn has ended.
const GRACE: Duration = Duration::from_secs(5);
/// How long a write to the agent may take: it may have stopped reading.
const WRITE: Duration = Duration::from_secs(10);
/// Tools whose start is remembered until their end.
const OPEN_TOOLS: usize = 256;
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
    let Some((program, args)) = spec.command.split_first() else {
        return TurnEnd::NotStarted { why: "the agent's command is empty".into() };
    };
    let process = Spec {
        owner: spec.owner.clone(),
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        cwd: spec.cwd.clone(),
        env: spec.env.clone(),
        leaves_children: false,
    };
    let started = match supervisor.start(&process, Stdio::piped()) {
        Ok(started) => started,
        Err(error) => {
            return TurnEnd::NotStarted { why: format!("{program}: {error}").into() };
        }
    };
    let end = converse(started, spec, events, control).await;
    supervisor.end(&spec.owner).await;
    end
}

/// What the conversation came to, before the program's own end is known.
enum Said {
    End(TurnEnd),
    Eof,
}

async fn converse(
    mut started: Started,
    spec: &TurnSpec,
    events: &Events,
    control: &mut mpsc::Receiver<Control>,
) -> TurnEnd {
    let child = &mut started.child;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return TurnEnd::NotStarted { why: "its pipes could not be made".into() };
    };
    let tail = tokio::spawn(keep_tail(stderr));
    let prompt =
        ToAgent::Prompt { prompt: spec.prompt.as_received(), session: spec.resume.as_deref() };
    // A program that never reads its prompt shows itself below, by its end or its silence.
    let _ = tell(&mut stdin, &prompt).await;
    let said =
        listen(BufReader::with_capacity(64 * 1024, stdout), stdin, spec, events, control).await;
    match said {
        Said::End(end @ (TurnEnd::Silent | TurnEnd::TimedOut)) => end,
        Said::End(end) => {
            // It said so; now it may go by itself.
            let _ = timeout(GRACE, started.child.wait()).await;
            end
        }
        Said::Eof => {
            let status = timeout(GRACE, started.child.wait()).await;
            let tail = timeout(Duration::from_secs(1), tail).await;
            let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
            let how = match status {
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(ref error)) => error.to_string(),
                Err(_) => "it closed its output and went on".into(),
            };
            let why: Untrusted = format!("{how}, without saying `end`; {}", tail.trim()).into();
            match status {
                Ok(Ok(status)) if matches!(status.code(), Some(126 | 127)) => {
                    TurnEnd::NotStarted { why: tail.into() }
                }
                _ => TurnEnd::Crashed { why },
            }
        }
    }
}

async fn listen(
    mut stdout: BufReader<tokio::process::ChildStdout>,
    mut stdin: ChildStdin,
    spec: &TurnSpec,
    events: &Events,
    control: &mut mpsc::Receiver<Control>,
) -> Said {
    let over = Instant::now() + spec.limit;
    let mut heard = Instant::now();
    let mut asked = 0_usize;
    let mut titles: HashMap<String, Untrusted> = HashMap::new();
    let (lines, mut from_reader) = mpsc::channel::<AgentEvent>(64);
    // Reading is a task of its own: a select that drops a half-read line would lose it.
    let reader = tokio::spawn(async move {
        let mut line = Vec::new();
        while let Ok(Some(cut)) = read_line(&mut stdout, LINE_LIMIT, &mut line).await {
            let event = translate(&line, cut);
            if line.capacity() > 1024 * 1024 {
                line = Vec::new();
            }
            if lines.send(event).await.is_err() {
                break;
            }
        }
    });
    let said = loop {
        // A human may take hours; the turn's own limit still holds.
        let silent = if asked > 0 { over } else { heard + spec.silence };
        tokio::select! {
            event = from_reader.recv() => {
                heard = Instant::now();
                match event {
                    None => break Said::Eof,
                    Some(AgentEvent::TurnEnd(end)) => break Said::End(end),
                    Some(mut event) => {
                        name_tool(&mut titles, &mut event);
                        if matches!(event, AgentEvent::PermissionRequest { .. } | AgentEvent::Question { .. }) {
                            asked += 1;
                        }
                        if events.send(event).await.is_err() {
                            break Said::Eof;
                        }
                    }
                }
            }
            Some(control) = control.recv() => {
                heard = Instant::now();
                let (shown, written) = match control {
                    Control::Steer { text, by } => {
                        let line = ToAgent::Steer { text: text.as_received() };
                        let written = tell(&mut stdin, &line).await;
                        (AgentEvent::Steered { text, by }, written)
                    }
                    Control::Answer { request, answer, by } => {
                        asked = asked.saturating_sub(1);
                        let (decision, text) = match &answer {
                            Answer::Approve => ("allow", ""),
                            Answer::Deny { reason } => ("deny", reason.as_received()),
                            Answer::Text { text } => ("text", text.as_received()),
                        };
                        let written = tell(&mut stdin, &ToAgent::Answer { id: &request, decision, text }).await;
                        let shown = answer.line().into();
                        (AgentEvent::Resolved { id: request, answer: shown, by }, written)
                    }
                };
                let _ = events.send(shown).await;
                if let Err(why) = written {
                    let text = format!("the agent did not take it: {why}").into();
                    let _ = events.send(AgentEvent::Notice { text }).await;
                }
            }
            () = sleep_until(over) => break Said::End(TurnEnd::TimedOut),
            () = sleep_until(silent), if asked == 0 => break Said::End(TurnEnd::Silent),
        }
    };
    reader.abort();
    said
}

/// Gives a tool's end the title of its start.
fn name_tool(titles: &mut HashMap<String, Untrusted>, event: &mut AgentEvent) {
    match event {
        AgentEvent::ToolStart { id, title, .. } if titles.len() < OPEN_TOOLS => {
            titles.insert(id.clone(), title.clone());
        }
        AgentEvent::ToolEnd { id, title, .. } => *title = titles.remove(id).unwrap_or_default(),
        _ => {}
    }
}

async fn tell(stdin: &mut ChildStdin, line: &ToAgent<'_>) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    let write = async {
        stdin.write_all(&bytes).await?;
        stdin.flush().await
    };
    timeout(WRITE, write).await.map_err(std::io::Error::from)?
}

async fn keep_tail(mut stderr: tokio::process::ChildStderr) -> String {
    let mut tail = Vec::new();
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        let over = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..over);
    }
    String::from_utf8_lossy(&tail).into_owned()
}
