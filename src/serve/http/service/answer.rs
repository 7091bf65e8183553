//! The answer to a question: a job whose text a request awaits. If the caller disconnects before the
//! end, the job is cancelled.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::ApiState;
use super::output::LineText;
use super::{ServiceCaller, ServiceRefusal, new_job_id, submit};
use crate::config::answer::AnswerSettings;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::command::{Command, Refusal};
use crate::core::model::id::RunId;
use crate::core::model::job::{Job, JobId, JobKind, QuestionEquipment};
use crate::core::model::run::Outcome;
use crate::runtime::Handle;

/// The longest answer that is kept until its end, in bytes. A streamed answer has no bound: its caller
/// reads each piece at once.
const ANSWER: usize = 8 * 1024 * 1024;

/// A question of a caller, ready to become a job.
#[derive(Debug)]
pub(super) struct ServiceQuestion {
    pub(super) prompt: String,
    pub(super) kind: JobKind,
    pub(super) settings: AnswerSettings,
}

/// A job whose answer is awaited; dropping it before the end cancels the job.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    handle: Handle,
    pub(super) id: JobId,
    run: RunId,
    caller: ServiceCaller,
    events: mpsc::Receiver<AgentEvent>,
    /// The agent streams pieces; its whole lines would repeat them.
    streams: bool,
    /// The answer has at least one part.
    begun: bool,
    /// The whole lines so far, of an agent that doesn't stream.
    lines: LineText,
    /// A tool has run since the last part.
    is_after_tool: bool,
    ended: bool,
    /// The tokens and the money of the answer so far.
    pub(super) spend: Spend,
}

/// Submits a question as a job.
///
/// # Errors
/// Returns the core's refusal in the shape of the service.
pub(super) async fn ask(
    state: &ApiState,
    caller: ServiceCaller,
    question: ServiceQuestion,
) -> Result<PendingAnswer, ServiceRefusal> {
    let id = new_job_id()?;
    let AnswerSettings { agent, role, tools, clone, max_usd, seconds, model, .. } =
        question.settings;
    let job = Job {
        id,
        kind: question.kind,
        agent,
        model: Some(model),
        budget: max_usd.map(MicroUsd::from_usd),
        limit_ms: i64::from(seconds) * 1000,
        metadata: None,
        equipment: QuestionEquipment { role, tools, clone },
    };
    let events = state.handle.listen(id);
    match submit(state, &caller, &question.prompt, job).await {
        Ok(run) => Ok(PendingAnswer {
            handle: state.handle.clone(),
            id,
            run,
            caller,
            events,
            streams: false,
            begun: false,
            lines: LineText::default(),
            is_after_tool: false,
            ended: false,
            spend: Spend::default(),
        }),
        Err(refusal) => {
            state.handle.stop_listening(id);
            Err(match refusal {
                Refusal::Viewer => ServiceRefusal::from(&refusal),
                other => ServiceRefusal::failed(&other.to_string()),
            })
        }
    }
}

/// A part of an answer.
#[derive(Debug)]
pub(super) struct AnswerPart {
    pub(super) text: String,
    /// The agent has used a tool since the last part: what it wrote before was no answer yet.
    pub(super) is_after_tool: bool,
}

impl PendingAnswer {
    /// Awaits the next part of the answer; `None` once the answer is complete. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// Returns the reason in a line if the job failed.
    pub(super) async fn next(&mut self) -> Result<Option<AnswerPart>, String> {
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = self.caller.0.rights.revoked() => {
                    return Err("the caller's token was revoked".into());
                }
            };
            let Some(event) = event else { break };
            match event {
                AgentEvent::Piece { text } => {
                    self.streams = true;
                    return Ok(Some(self.part(text.as_received().to_owned())));
                }
                AgentEvent::Text { text } if !self.streams => {
                    let whole = format!("{}{}", self.lines.separator(), text.as_received());
                    self.lines = LineText::default();
                    self.lines.push(text.as_received());
                    return Ok(Some(self.part(whole)));
                }
                AgentEvent::ToolStart { .. } | AgentEvent::ToolEnd { .. } => {
                    self.is_after_tool = self.begun;
                }
                AgentEvent::Usage(spend) => self.spend.add(spend),
                _ => {}
            }
        }
        self.end().await.map(|()| None)
    }

    fn part(&mut self, text: String) -> AnswerPart {
        self.begun = true;
        AnswerPart { text, is_after_tool: std::mem::take(&mut self.is_after_tool) }
    }

    /// Awaits the outcome of the job, which the next snapshots show.
    async fn end(&mut self) -> Result<(), String> {
        let mut snapshots = self.handle.snapshots.clone();
        let ended = |now: &Arc<crate::runtime::Snapshot>| {
            // A job that the fleet has already forgotten has ended too.
            now.fleet.runs.get(&self.run).is_none_or(|run| run.progress.outcome.is_some())
        };
        let snapshot = snapshots.wait_for(ended).await.map_err(|_| "afk has ended".to_owned())?;
        self.ended = true;
        match snapshot.fleet.runs.get(&self.run) {
            Some(run) if run.progress.outcome == Some(Outcome::Done) => Ok(()),
            Some(run) => Err(run.progress.why.clean_line()),
            None => Err("afk has already forgotten the job".into()),
        }
    }

    /// Awaits the complete answer, of which at most [`ANSWER`] bytes are kept: the text after the last
    /// tool.
    ///
    /// # Errors
    /// Returns the reason in a line if the job failed.
    pub(super) async fn complete(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(part) = self.next().await? {
            if part.is_after_tool {
                text.clear();
            }
            let room = ANSWER.saturating_sub(text.len());
            text.push_str(&part.text[..part.text.floor_char_boundary(room)]);
        }
        Ok(text)
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        self.handle.stop_listening(self.id);
        if self.ended {
            return;
        }
        let handle = self.handle.clone();
        let command = self.caller.0.command("http, gone", Command::Cancel { run: self.run });
        tokio::spawn(async move {
            // The job may have ended meanwhile.
            let _ = handle.command(command).await;
        });
    }
}
