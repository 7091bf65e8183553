//! One turn as its lines come and go: the events that are told, the watchdog, the budget, and what an
//! operator says meanwhile. Whoever carries the lines has the process or the connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};

use super::record::{Record, Way};
use super::{Control, Conversation, Events, Said, Tariff, TurnSpec};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::Steer;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;

/// How long a turn may take to end after an interrupt.
const INTERRUPT: Duration = Duration::from_secs(15);
/// Lines that may wait to be written.
pub const TO_WRITE: usize = 256;
/// Lines that may wait to be understood; each may be long.
pub const TO_READ: usize = 8;
/// Between two looks at the memory of the tree.
const LOOK: Duration = Duration::from_secs(2);
/// Tools and requests that are remembered at once.
const OPEN: usize = 256;

/// How listening ended.
pub enum Over {
    /// The conversation said how the turn ended.
    Said(TurnEnd),
    /// A limit was reached: the tree is stopped without ceremony.
    Stopped(TurnEnd),
    /// The output is over.
    Eof,
}

/// Why a turn was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Operator,
    Watchdog,
    Budget,
}

impl Interrupted {
    const fn end(self) -> TurnEnd {
        match self {
            Self::Operator => TurnEnd::Interrupted,
            Self::Watchdog => TurnEnd::Nudged,
            Self::Budget => TurnEnd::Budget,
        }
    }
}

/// See the module.
pub struct Turn<'a> {
    /// The agent's protocol.
    pub conversation: Box<dyn Conversation>,
    spec: &'a TurnSpec,
    events: &'a Events,
    /// Where lines for the agent go.
    pub lines: mpsc::Sender<Vec<u8>>,
    record: Option<Record>,
    /// Since when nothing is heard, and whether that was shown.
    heard: Instant,
    quiet: bool,
    retrying: bool,
    interrupted: Option<(Interrupted, Instant)>,
    /// Titles of the tools that run.
    tools: BTreeMap<String, Untrusted>,
    /// What an answer is waited for, with its title.
    requests: BTreeMap<String, Untrusted>,
    /// Messages for after the turn; true for an operator's.
    later: VecDeque<(String, bool)>,
    spent: MicroUsd,
    gone: bool,
}

impl<'a> Turn<'a> {
    /// A turn whose lines for the agent go to `lines`.
    #[must_use]
    pub fn new(
        conversation: Box<dyn Conversation>,
        spec: &'a TurnSpec,
        events: &'a Events,
        lines: mpsc::Sender<Vec<u8>>,
    ) -> Self {
        let record = spec.record.as_ref().and_then(|path| {
            let opened = Record::open(path, spec.redactor.clone());
            let failed = |error: &std::io::Error| {
                tracing::warn!(%error, "no record of the agent's lines");
            };
            opened.inspect_err(failed).ok()
        });
        Self {
            conversation,
            spec,
            events,
            lines,
            record,
            heard: Instant::now(),
            quiet: false,
            retrying: false,
            interrupted: None,
            tools: BTreeMap::new(),
            requests: BTreeMap::new(),
            later: VecDeque::new(),
            spent: MicroUsd(0),
            gone: false,
        }
    }

    /// Serves it to its end. `memory` tells the bytes that its processes take, where it has any here.
    pub async fn serve(
        &mut self,
        memory: &(dyn Fn() -> u64 + Sync),
        mut from: mpsc::Receiver<(Vec<u8>, bool)>,
        control: &mut mpsc::Receiver<Control>,
    ) -> Over {
        let over = Instant::now() + self.spec.limits.turn;
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = Said::default();
        self.conversation.begin(self.spec, &mut said);
        if let Some(end) = self.take(said).await {
            return Over::Said(end);
        }
        if !self.conversation.reads_on() {
            // What is queued is written, and then its input is over.
            self.lines = mpsc::channel(1).0;
        }
        loop {
            if self.gone {
                return Over::Stopped(TurnEnd::Interrupted);
            }
            let watch = self.watch();
            tokio::select! {
                line = from.recv() => {
                    let Some((line, cut)) = line else {
                        self.flush();
                        return self.interrupted.map_or(Over::Eof, |(why, _)| Over::Stopped(why.end()));
                    };
                    self.keep(Way::Out, &line);
                    if let Some(end) = self.hear(&line, cut).await {
                        self.flush();
                        return Over::Said(end);
                    }
                }
                Some(control) = control.recv() => self.control(control).await,
                () = sleep_until(watch), if self.requests.is_empty() || self.interrupted.is_some() => {
                    if let Some(end) = self.silent().await {
                        return Over::Stopped(end);
                    }
                }
                _ = look.tick() => {
                    self.flush();
                    if let Some(end) = self.memory(memory()) {
                        return Over::Stopped(end);
                    }
                }
                () = sleep_until(over) => return Over::Stopped(TurnEnd::TimedOut),
            }
        }
    }

    async fn hear(&mut self, line: &[u8], cut: bool) -> Option<TurnEnd> {
        self.heard = Instant::now();
        let mut said = Said::default();
        self.conversation.hear(line, cut, &mut said);
        let again = said.events.iter().any(|event| matches!(event, AgentEvent::Retry { .. }));
        let silent = said.events.is_empty();
        if self.quiet || (self.retrying && !again && !silent) {
            self.quiet = false;
            self.retrying = false;
            self.tell(AgentEvent::Active).await;
        }
        self.retrying |= again;
        self.take(said).await
    }

    /// Carries out what the conversation said; the turn's end where it has one.
    async fn take(&mut self, mut said: Said) -> Option<TurnEnd> {
        loop {
            for line in said.lines {
                self.write(line).await;
            }
            for event in said.events {
                self.tell(event).await;
            }
            self.later.extend(said.later.into_iter().map(|text| (text, false)));
            let end = said.end?;
            if let Some((why, _)) = self.interrupted {
                // A turn that was over before it heard of it was not interrupted.
                let done = end == TurnEnd::Done && why != Interrupted::Budget;
                return Some(if done { end } else { why.end() });
            }
            // A refusal that ended the turn leaves its reason to be told.
            let goes_on = match end {
                TurnEnd::Done => true,
                TurnEnd::Interrupted => self.later.front().is_some_and(|(_, steered)| !steered),
                _ => false,
            };
            let Some((text, steered)) = self.later.pop_front().filter(|_| goes_on) else {
                return Some(end);
            };
            said = Said::default();
            self.conversation.follow(&text, &mut said);
            if steered {
                said.event(AgentEvent::SteerTaken);
            }
        }
    }

    /// Hands an event on: tools get their titles, money is reckoned, secrets go.
    async fn tell(&mut self, mut event: AgentEvent) {
        match &mut event {
            AgentEvent::ToolStart { id, title, .. } if self.tools.len() < OPEN => {
                self.tools.insert(id.clone(), title.clone());
            }
            AgentEvent::ToolEnd { id, title, .. } => {
                let known = self.tools.remove(id).unwrap_or_default();
                if title.is_empty() {
                    *title = known;
                }
            }
            AgentEvent::PermissionRequest { id, request: ask } if self.requests.len() < OPEN => {
                self.requests.insert(id.clone(), ask.title.clone());
            }
            AgentEvent::Question { id, text, .. } if self.requests.len() < OPEN => {
                self.requests.insert(id.clone(), Untrusted::new(text.clean_line()));
            }
            AgentEvent::RequestWithdrawn { id } => {
                self.requests.remove(id);
            }
            AgentEvent::Usage(spend) => *spend = self.reckon(*spend),
            _ => {}
        }
        self.spec.redactor.event(&mut event);
        self.gone |= self.events.send(event).await.is_err();
    }

    fn reckon(&mut self, mut spend: Spend) -> Spend {
        match self.spec.tariff {
            Tariff::Told => {}
            Tariff::Flat => spend.usd = MicroUsd(0),
            Tariff::Priced { input, output } if spend.usd.0 == 0 => {
                // Far below 2^52 tokens.
                #[allow(clippy::cast_precision_loss)]
                let usd = (spend.tokens_in as f64 * input + spend.tokens_out as f64 * output) / 1e6;
                spend.usd = MicroUsd::from_usd(usd);
                spend.estimated = spend.usd;
            }
            Tariff::Priced { .. } => {}
        }
        self.spent = self.spent.plus(spend.usd);
        if self.interrupted.is_none() && self.spec.budget.is_some_and(|most| self.spent > most) {
            self.interrupt(Interrupted::Budget);
        }
        spend
    }

    async fn control(&mut self, control: Control) {
        let mut said = Said::default();
        match control {
            Control::Steer { text, by } => {
                let can = self.conversation.capabilities().steer;
                match can {
                    Steer::MidTurn => self.conversation.steer(text.as_received(), &mut said),
                    Steer::AfterTurn => {
                        self.later.push_back((text.as_received().to_owned(), true));
                    }
                    Steer::Unsupported => {
                        said.notice("this agent takes no messages in the middle of a turn");
                    }
                }
                self.tell(AgentEvent::Steered { text, by }).await;
                if can == Steer::AfterTurn {
                    said.notice("this agent takes it once its turn is over");
                }
            }
            Control::Answer { request, answer, by } => {
                self.heard = Instant::now();
                self.conversation.answer(&request, &answer, &by, &mut said);
                let title = self.requests.remove(&request).unwrap_or_default();
                let answer = answer.summary().into();
                self.tell(AgentEvent::Resolved { id: request, title, answer, by }).await;
            }
            Control::Interrupt => self.interrupt(Interrupted::Operator),
        }
        // An answer ends no turn by itself.
        let _ = self.take(said).await;
    }

    /// Asks the agent to end its turn; one that can't is stopped when the time for it is over.
    fn interrupt(&mut self, why: Interrupted) {
        if self.interrupted.is_some() {
            return;
        }
        let patience = if self.conversation.capabilities().interrupt {
            let mut said = Said::default();
            self.conversation.interrupt(&mut said);
            for line in said.lines {
                self.keep(Way::In, &line);
                // A full queue means that it does not read: it is stopped a little later.
                let _ = self.lines.try_send(line);
            }
            INTERRUPT
        } else {
            Duration::ZERO
        };
        self.interrupted = Some((why, Instant::now() + patience));
    }

    /// When the watchdog looks next.
    fn watch(&self) -> Instant {
        if let Some((_, until)) = self.interrupted {
            return until;
        }
        let silence = self.spec.limits.silence;
        if self.quiet { self.heard + self.nudge() } else { self.heard + silence }
    }

    /// Silence after which the turn is interrupted. A tool may take its time.
    fn nudge(&self) -> Duration {
        let twice = self.spec.limits.silence * 2;
        if self.tools.is_empty() { twice } else { twice.max(self.spec.limits.tool) }
    }

    async fn silent(&mut self) -> Option<TurnEnd> {
        if let Some((why, _)) = self.interrupted {
            return Some(match why {
                Interrupted::Watchdog => TurnEnd::Silent,
                other => other.end(),
            });
        }
        let seconds = self.heard.elapsed().as_secs();
        let nudge = self.quiet;
        self.quiet = true;
        self.tell(AgentEvent::Quiet { seconds, interrupted: nudge }).await;
        if nudge {
            if !self.conversation.capabilities().interrupt {
                // It can't be told; it has the rest of its time to be heard of.
                self.interrupted =
                    Some((Interrupted::Watchdog, Instant::now() + self.spec.limits.silence));
                return None;
            }
            self.interrupt(Interrupted::Watchdog);
            let until = Instant::now() + self.spec.limits.silence;
            self.interrupted = Some((Interrupted::Watchdog, until));
        }
        None
    }

    fn memory(&self, used: u64) -> Option<TurnEnd> {
        let most = self.spec.limits.memory;
        (used > most).then(|| {
            let mib = |bytes: u64| bytes / (1024 * 1024);
            let why = format!("{} MiB in all its processes, over {} MiB", mib(used), mib(most));
            TurnEnd::OutOfMemory { why: why.into() }
        })
    }

    async fn write(&mut self, line: Vec<u8>) {
        self.keep(Way::In, &line);
        if self.lines.try_send(line).is_err() {
            let text = "the agent did not take it: it reads nothing more".into();
            self.tell(AgentEvent::Notice { text }).await;
        }
    }

    fn keep(&mut self, way: Way, line: &[u8]) {
        if let Some(record) = &mut self.record {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
            record.line(Timestamp(ms), way, line);
        }
    }

    fn flush(&mut self) {
        if let Some(record) = &mut self.record {
            record.flush();
        }
    }
}
