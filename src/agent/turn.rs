//! The loop of one turn: moves lines between a transport and an [`AgentProtocol`], emits events,
//! and enforces the watchdog, the budget, and the time and memory limits.
//!
//! The caller owns the transport: the driver has a process, the T3 executor has a connection. It
//! feeds [`AgentLine`]s in, receives lines for the agent from a channel, and must end the agent
//! when [`TurnLoop::run`] returns.

mod budget;
mod watchdog;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

use self::budget::{Checkpoint, TurnBudget};
pub(crate) use self::watchdog::TurnHost;
use self::watchdog::{Life, OngoingTool};
use super::bounds::bound;
use super::estimate::Estimate;
use super::recorder::{Direction, LineRecorder};
use super::{AgentProtocol, EventSender, ProtocolOutput, TurnControl, TurnSpec, limit, overflow};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::capability::Steer;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::redact::SplitGuard;

/// How long the agent may take to end its turn after an interrupt.
const INTERRUPT_GRACE: Duration = Duration::from_secs(15);
/// Capacity of the channel of lines for the agent.
pub(crate) const TO_WRITE: usize = 256;
/// Capacity of the channel of lines from the agent; small, because one line may be 16 MiB.
pub(crate) const TO_READ: usize = 8;
/// The interval between two checks of the process tree.
const USAGE_CHECK: Duration = Duration::from_secs(2);
/// The most tools, and the most requests, that are tracked at once.
const TRACKED: usize = 256;

/// One line from the agent.
pub(crate) struct AgentLine {
    pub(crate) bytes: Vec<u8>,
    /// The line exceeded the transport's limit and lost its end.
    pub(crate) cut: bool,
}

/// Why the loop returned.
pub(crate) enum TurnOutcome {
    /// The agent reported the end of its turn.
    Reported(TurnEnd),
    /// A limit was reached: the caller must kill the agent at once.
    Stopped(TurnEnd),
    /// The agent closed its output without reporting an end.
    OutputClosed,
}

/// A message that waits for the end of the turn.
struct QueuedMessage {
    text: String,
    /// Written by an operator, who gets an [`AgentEvent::SteerTaken`] once the agent has it.
    by_operator: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InterruptCause {
    Operator,
    Watchdog,
    Budget,
    /// The estimate is over the budget; the agent's own figure decides.
    Checkpoint,
}

impl InterruptCause {
    const fn end(self) -> TurnEnd {
        match self {
            Self::Operator => TurnEnd::Interrupted,
            Self::Watchdog => TurnEnd::Nudged,
            Self::Budget | Self::Checkpoint => TurnEnd::Budget,
        }
    }

    /// Whether the work goes on in the same conversation afterwards.
    const fn goes_on(self) -> bool {
        matches!(self, Self::Watchdog | Self::Checkpoint)
    }
}

/// The state of one turn; see the module.
pub(crate) struct TurnLoop<'a> {
    pub(crate) protocol: Box<dyn AgentProtocol>,
    spec: &'a TurnSpec,
    events: &'a EventSender,
    /// Lines for the agent; dropping the sender closes its input.
    pub(crate) lines: mpsc::Sender<Vec<u8>>,
    recorder: Option<LineRecorder>,
    /// Holds events back that may end with the beginning of a secret.
    guard: SplitGuard<AgentEvent>,
    life: Life,
    /// The silence since its last activity was already reported.
    quiet: bool,
    /// The agent is retrying a call of its model.
    retrying: bool,
    /// Why the turn was interrupted, and when the patience with it ends.
    interrupted: Option<(InterruptCause, Instant)>,
    /// The running tools by id.
    tools: BTreeMap<String, OngoingTool>,
    /// Titles of the unanswered requests by id.
    requests: BTreeMap<String, Untrusted>,
    later: VecDeque<QueuedMessage>,
    budget: TurnBudget,
    /// The usage that the agent has not reported yet.
    estimate: Estimate,
    /// The runtime dropped the receiver of `events`: nothing uses the turn any longer.
    receiver_gone: bool,
}

impl<'a> TurnLoop<'a> {
    /// Prepares a turn; `lines` carries the lines for the agent.
    pub(crate) fn new(
        protocol: Box<dyn AgentProtocol>,
        spec: &'a TurnSpec,
        events: &'a EventSender,
        lines: mpsc::Sender<Vec<u8>>,
    ) -> Self {
        let recorder = spec.record.as_ref().and_then(|path| {
            let opened = LineRecorder::open(path, spec.redactor.clone());
            let failed = |error: &std::io::Error| {
                tracing::warn!(path = %path.display(), %error, "the recording can't be opened");
            };
            opened.inspect_err(failed).ok()
        });
        Self {
            protocol,
            spec,
            events,
            lines,
            recorder,
            guard: SplitGuard::new(spec.redactor.clone()),
            life: Life::new(),
            quiet: false,
            retrying: false,
            interrupted: None,
            tools: BTreeMap::new(),
            requests: BTreeMap::new(),
            later: VecDeque::new(),
            budget: TurnBudget::default(),
            estimate: Estimate::default(),
            receiver_gone: false,
        }
    }

    /// Runs the turn until it ends, a limit is reached, or the agent closes its output.
    ///
    /// `host` looks at the agent's processes.
    pub(crate) async fn run(
        &mut self,
        host: &dyn TurnHost,
        from_agent: mpsc::Receiver<AgentLine>,
        control: &mut mpsc::Receiver<TurnControl>,
    ) -> TurnOutcome {
        let outcome = self.pass(host, from_agent, control).await;
        self.finish().await;
        outcome
    }

    /// Emits what the agent has said and not finished. A caller that drops [`TurnLoop::run`] before
    /// its end calls it.
    pub(crate) async fn finish(&mut self) {
        self.flush();
        let mut unfinished = Vec::new();
        self.protocol.flush(&mut unfinished);
        for event in unfinished {
            self.emit(event).await;
        }
        self.emit_estimate().await;
        let rest = self.guard.release();
        self.send(rest).await;
    }

    async fn pass(
        &mut self,
        host: &dyn TurnHost,
        mut from_agent: mpsc::Receiver<AgentLine>,
        control: &mut mpsc::Receiver<TurnControl>,
    ) -> TurnOutcome {
        let deadline = Instant::now() + self.spec.limits.turn;
        let mut usage_check = interval_at(Instant::now() + USAGE_CHECK, USAGE_CHECK);
        usage_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut out = ProtocolOutput::default();
        self.protocol.begin(self.spec, &mut out);
        self.estimate.prompt(self.spec.prompt.as_received());
        if let Some(end) = self.apply(out).await {
            return TurnOutcome::Reported(end);
        }
        if !self.protocol.keeps_input_open() {
            // The transport writes the queued lines, then the closed channel ends the agent's
            // input.
            self.lines = mpsc::channel(1).0;
        }
        loop {
            if self.receiver_gone {
                return TurnOutcome::Stopped(TurnEnd::Interrupted);
            }
            let watchdog = self.watchdog_deadline();
            let pending = self.protocol.pending_end();
            let over = self.life.last_activity
                + pending.as_ref().map_or(Duration::ZERO, |(wait, _)| *wait);
            tokio::select! {
                line = from_agent.recv() => {
                    let Some(AgentLine { bytes, cut }) = line else {
                        self.flush();
                        return match self.interrupted {
                            Some((cause, _)) => TurnOutcome::Stopped(cause.end()),
                            None => TurnOutcome::OutputClosed,
                        };
                    };
                    self.record_line(Direction::FromAgent, &bytes);
                    if let Some(end) = self.receive_line(&bytes, cut).await {
                        self.flush();
                        return TurnOutcome::Reported(end);
                    }
                }
                () = sleep_until(over), if pending.is_some() => {
                    if let Some((_, end)) = pending {
                        return TurnOutcome::Reported(end);
                    }
                }
                Some(control) = control.recv() => self.handle_control(control).await,
                () = sleep_until(watchdog), if pending.is_none()
                    && (self.requests.is_empty() || self.interrupted.is_some()) => {
                    if let Some(end) = self.on_silence(host).await {
                        return TurnOutcome::Stopped(end);
                    }
                }
                _ = usage_check.tick() => {
                    self.flush();
                    if let Some(end) = self.check_usage(host.usage()) {
                        return TurnOutcome::Stopped(end);
                    }
                    self.report_tools().await;
                }
                () = sleep_until(deadline) => return TurnOutcome::Stopped(TurnEnd::TimedOut),
            }
        }
    }

    async fn receive_line(&mut self, line: &[u8], cut: bool) -> Option<TurnEnd> {
        self.life.last_activity = Instant::now();
        let mut out = ProtocolOutput::default();
        self.protocol.receive_line(line, cut, &mut out);
        let retries = out.events.iter().any(|event| matches!(event, AgentEvent::Retry { .. }));
        let silent = out.events.is_empty();
        self.note_screen(&out.events);
        if self.quiet || (self.retrying && !retries && !silent) {
            self.quiet = false;
            self.retrying = false;
            self.emit(AgentEvent::Active).await;
        }
        self.retrying |= retries;
        let end = self.apply(out).await;
        if end.is_none() {
            self.check_estimate();
        }
        end
    }

    /// Writes the lines and emits the events. At the end of a turn, begins the next one with a
    /// queued message, or returns the end.
    async fn apply(&mut self, mut out: ProtocolOutput) -> Option<TurnEnd> {
        loop {
            for line in out.lines {
                self.write(line).await;
            }
            for event in out.events {
                match self.over_bound(&event) {
                    Some(request) => self.refuse(request, &mut out.later).await,
                    None => self.emit(event).await,
                }
            }
            let later = out.later.into_iter().take(TRACKED.saturating_sub(self.later.len()));
            self.later.extend(later.map(|text| QueuedMessage { text, by_operator: false }));
            let end = overflow::or_failure(limit::or_failure(out.end?));
            if matches!(
                end,
                TurnEnd::ApiError { .. }
                    | TurnEnd::UsageLimit { .. }
                    | TurnEnd::ContextOverflow { .. }
            ) {
                // A failed request is not paid.
                self.estimate.reported();
            }
            if let Some((InterruptCause::Checkpoint, _)) = self.interrupted {
                match self.pass_checkpoint(end).await {
                    Checkpoint::Ends(end) => return Some(end),
                    Checkpoint::GoesOn(text) => {
                        out = ProtocolOutput::default();
                        self.estimate.prompt(text);
                        self.protocol.follow_up(text, &mut out);
                        continue;
                    }
                }
            }
            if let Some((cause, _)) = self.interrupted {
                // The turn was done before the interrupt reached the agent.
                let done = end == TurnEnd::Done && cause != InterruptCause::Budget;
                return Some(if done { end } else { cause.end() });
            }
            // A denied permission ended the turn: the next one passes the reason on.
            let goes_on = match end {
                TurnEnd::Done => true,
                TurnEnd::Interrupted => {
                    self.later.front().is_some_and(|message| !message.by_operator)
                }
                _ => false,
            };
            let Some(message) = self.later.pop_front().filter(|_| goes_on) else {
                return Some(end);
            };
            out = ProtocolOutput::default();
            self.estimate.prompt(&message.text);
            self.protocol.follow_up(&message.text, &mut out);
            if message.by_operator {
                out.emit(AgentEvent::SteerTaken);
            }
        }
    }

    /// The identifier of a request that the agent makes while too many of its requests are unanswered.
    fn over_bound(&self, event: &AgentEvent) -> Option<String> {
        match event {
            AgentEvent::PermissionRequest { id, .. } | AgentEvent::Question { id, .. }
                if self.requests.len() >= TRACKED && !self.requests.contains_key(id) =>
            {
                Some(id.clone())
            }
            _ => None,
        }
    }

    /// Refuses a request here, so that a flood of them reaches neither the core nor the operators.
    async fn refuse(&mut self, request: String, later: &mut Vec<String>) {
        let reason = format!(
            "too many questions are open: {TRACKED} of this turn wait for an answer; wait for them, or \
             go on without"
        );
        let (answer, by) = (Answer::Deny { reason: reason.into() }, DecidedBy::Afk);
        let mut out = ProtocolOutput::default();
        self.protocol.answer(&request, &answer, &by, &mut out);
        for line in out.lines {
            self.write(line).await;
        }
        for event in out.events {
            self.emit(event).await;
        }
        later.extend(out.later);
        let answer = answer.summary().into();
        self.emit(AgentEvent::Resolved { id: request, title: Untrusted::default(), answer, by })
            .await;
    }

    /// Sends an event to the runtime, after bounding it, adding a tool's title, applying the tariff and
    /// removing secrets.
    async fn emit(&mut self, event: AgentEvent) {
        let mut event = bound(event);
        let mut ends_reported_tool = false;
        self.estimate.count(&event);
        match &mut event {
            AgentEvent::ToolStart { id, title, .. } if self.tools.len() < TRACKED => {
                self.tools.insert(id.clone(), OngoingTool::new(title.clone()));
            }
            AgentEvent::ToolEnd { id, title, .. } => {
                let known = self.tools.remove(id);
                ends_reported_tool = known.as_ref().is_some_and(|tool| tool.reported);
                if title.is_empty() {
                    *title = known.map(|tool| tool.title).unwrap_or_default();
                }
            }
            AgentEvent::SessionStarted { .. } => self.life.session = Some(Instant::now()),
            AgentEvent::PermissionRequest { id, request: ask } if self.requests.len() < TRACKED => {
                self.requests.insert(id.clone(), ask.title.clone());
            }
            AgentEvent::Question { id, text, .. } if self.requests.len() < TRACKED => {
                self.requests.insert(id.clone(), Untrusted::new(text.clean_line()));
            }
            AgentEvent::RequestWithdrawn { id } => {
                self.requests.remove(id);
            }
            AgentEvent::Usage(spend) => *spend = self.book(*spend),
            _ => {}
        }
        self.spec.redactor.event(&mut event);
        // The core must not wait for an agent that may wait for the core.
        let events = if event.concerns_core() {
            let mut events = self.guard.release();
            events.push(event);
            events
        } else {
            self.guard.push(event)
        };
        self.send(events).await;
        if ends_reported_tool {
            self.send(vec![AgentEvent::Active]).await;
        }
    }

    async fn send(&mut self, events: Vec<AgentEvent>) {
        for event in events {
            self.receiver_gone |= self.events.send(event).await.is_err();
        }
    }

    async fn handle_control(&mut self, control: TurnControl) {
        let mut out = ProtocolOutput::default();
        match control {
            TurnControl::Steer { text, by } => {
                let steer = self.protocol.capabilities().steer;
                match steer {
                    Steer::MidTurn => self.protocol.steer(text.as_received(), &mut out),
                    Steer::AfterTurn => {
                        let text = text.as_received().to_owned();
                        self.later.push_back(QueuedMessage { text, by_operator: true });
                    }
                    Steer::Unsupported => {
                        out.notice("this agent accepts no messages during a turn");
                    }
                }
                self.emit(AgentEvent::Steered { text, by }).await;
                if steer == Steer::AfterTurn {
                    out.notice("the agent receives the message when this turn ends");
                }
            }
            TurnControl::Answer { request, answer, by } => {
                self.life.last_activity = Instant::now();
                self.protocol.answer(&request, &answer, &by, &mut out);
                let title = self.requests.remove(&request).unwrap_or_default();
                let answer = answer.summary().into();
                self.emit(AgentEvent::Resolved { id: request, title, answer, by }).await;
            }
            TurnControl::ToolResult { call, ok, text } => {
                self.life.last_activity = Instant::now();
                self.protocol.tool_result(&call, ok, text.as_received(), &mut out);
            }
            TurnControl::Interrupt => self.interrupt(InterruptCause::Operator),
        }
        // Only a line from the agent ends a turn.
        let _ = self.apply(out).await;
    }

    /// Asks the agent to end its turn. The loop stops it when [`INTERRUPT_GRACE`] has elapsed, and
    /// at once if it can't be interrupted.
    fn interrupt(&mut self, cause: InterruptCause) {
        let can_interrupt = self.protocol.capabilities().interrupt;
        if let Some((before, until)) = &mut self.interrupted {
            // The agent knows already; the reason that ends the turn counts.
            if cause == InterruptCause::Operator && before.goes_on() {
                *before = cause;
                if !can_interrupt {
                    *until = Instant::now();
                }
            }
            return;
        }
        let patience = if can_interrupt {
            let mut out = ProtocolOutput::default();
            self.protocol.interrupt(&mut out);
            for line in out.lines {
                self.record_line(Direction::ToAgent, &line);
                // A full queue means that the agent has stopped reading: the grace period ends it.
                let _ = self.lines.try_send(line);
            }
            INTERRUPT_GRACE
        } else {
            Duration::ZERO
        };
        self.interrupted = Some((cause, Instant::now() + patience));
    }

    async fn write(&mut self, line: Vec<u8>) {
        self.record_line(Direction::ToAgent, &line);
        if self.lines.try_send(line).is_err() {
            let text =
                "the agent did not receive the message: it has stopped reading its input".into();
            self.emit(AgentEvent::Notice { text }).await;
        }
    }

    fn record_line(&mut self, direction: Direction, line: &[u8]) {
        if let Some(recorder) = &mut self.recorder {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
            recorder.append(Timestamp(ms), direction, line);
        }
    }

    fn flush(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
        }
    }
}

#[cfg(test)]
mod tests;
