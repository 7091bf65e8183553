//! The answer to a question: a job whose text a request awaits. If the caller disconnects before the
//! end, the job is cancelled.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::ApiState;
use super::{ServiceCaller, ServiceRefusal, submit};
use crate::config::answer::AnswerSettings;
use crate::core::fleet::Fleet;
use crate::core::model::activity::Activity;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::command::{Command, Refusal};
use crate::core::model::id::RunId;
use crate::core::model::job::{Job, JobId, JobKind, QuestionEquipment};
use crate::core::model::run::Outcome;
use crate::journal::job_output::LineText;
use crate::runtime::Handle;

/// The longest answer that is kept until its end, in bytes. A streamed answer has no bound: its caller
/// reads each piece at once.
const ANSWER: usize = 8 * 1024 * 1024;

/// A question of a caller, ready to become a job.
#[derive(Debug, Clone)]
pub(super) struct ServiceQuestion {
    pub(super) prompt: String,
    /// The caller's own part, which ends the prompt.
    pub(super) message: String,
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
    /// A part of the answer has more than white space.
    has_text: bool,
    /// A tool has run.
    used_tools: bool,
    /// The whole lines so far, of an agent that doesn't stream.
    lines: LineText,
    /// A tool has run since the last part.
    is_after_tool: bool,
    ended: bool,
    /// The tokens and the money of the answer so far.
    pub(super) spend: Spend,
    /// Remarks on how the agent worked, such as that another one took its place; known at the end.
    pub(super) warnings: Vec<String>,
}

/// Submits a question as a job.
///
/// # Errors
/// The core's refusal; [`refused`] gives it the shape of the service.
pub(super) async fn ask(
    state: &ApiState,
    caller: &ServiceCaller,
    question: ServiceQuestion,
    id: JobId,
) -> Result<PendingAnswer, Refusal> {
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
    let Some(events) = state.handle.listen(id) else { return Err(Refusal::JobKnown { job: id }) };
    match submit(state, caller, &question.prompt, job).await {
        Ok(run) => Ok(PendingAnswer {
            handle: state.handle.clone(),
            id,
            run,
            caller: caller.clone(),
            events,
            streams: false,
            begun: false,
            has_text: false,
            used_tools: false,
            lines: LineText::default(),
            is_after_tool: false,
            ended: false,
            spend: Spend::default(),
            warnings: Vec::new(),
        }),
        Err(refusal) => {
            state.handle.stop_listening(id);
            Err(refusal)
        }
    }
}

/// The reason of an answer that took too long: what the job waits for, where it waits for an outage.
pub(super) fn late(fleet: &Fleet, is_it: impl Fn(&Job) -> bool, seconds: u32) -> String {
    let held = fleet.live_runs().filter(|run| run.work.job().is_some_and(&is_it));
    let cause = held.filter_map(|run| match &run.progress.activity {
        Activity::Held { cause, .. } => Some(cause.summary()),
        _ => None,
    });
    let why = cause.last().map(|why| format!(": it waits, since {why}"));
    format!("the agent gave no answer in {seconds} s{}", why.unwrap_or_default())
}

/// The core's refusal of a question in the shape of the service.
pub(super) fn refused(refusal: &Refusal) -> ServiceRefusal {
    match refusal {
        Refusal::Viewer => ServiceRefusal::from(refusal),
        other => ServiceRefusal::failed(&other.to_string()),
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
                    (self.is_after_tool, self.used_tools) = (self.begun, true);
                }
                AgentEvent::Usage(spend) => self.spend.add(spend),
                _ => {}
            }
        }
        self.end().await.map(|()| None)
    }

    fn part(&mut self, text: String) -> AnswerPart {
        self.begun = true;
        self.has_text |= !text.trim().is_empty();
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
        if let Some(run) = snapshot.fleet.runs.get(&self.run) {
            self.warnings = run.agent.remarks();
        }
        match snapshot.fleet.runs.get(&self.run) {
            // An empty answer would look like one.
            Some(run) if run.progress.outcome == Some(Outcome::Done) && !self.has_text => {
                let tools = if self.used_tools { ", after it used tools" } else { "" };
                Err(format!("the agent ended its turn without any text{tools}"))
            }
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
