//! Runs one turn: the program and its tree, the lines both ways, the limits, and the end.

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::record::{Record, Way};
use super::wire::LINE_LIMIT;
use super::{Control, Conversation, Events, Said, Tariff, TurnSpec, conversation};
use crate::core::agent_event::{AgentEvent, TurnEnd};
use crate::core::budget::{MicroUsd, Spend};
use crate::core::capability::Steer;
use crate::core::id::Timestamp;
use crate::core::untrusted::Untrusted;
use crate::process::output::read_line;
use crate::process::{Spec, Supervisor};

/// How long a program may take to go once its turn has ended.
const GRACE: Duration = Duration::from_secs(5);
/// How long a turn may take to end after an interrupt.
const INTERRUPT: Duration = Duration::from_secs(15);
/// How long a write to the agent may take: it may have stopped reading.
const WRITE: Duration = Duration::from_secs(10);
/// Lines that may wait to be written.
const TO_WRITE: usize = 256;
/// Lines that may wait to be understood; each may be long.
const TO_READ: usize = 8;
/// The end of standard error that is told when a program fails.
const STDERR_TAIL: usize = 4 * 1024;
/// Between two looks at the memory of the tree.
const LOOK: Duration = Duration::from_secs(2);
/// Tools and requests that are remembered at once.
const OPEN: usize = 256;

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
    let mut started = match supervisor.start(&process, Stdio::piped()) {
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
    let tail = tokio::spawn(keep_tail(stderr));
    let (lines, to_write) = mpsc::channel(TO_WRITE);
    let (tell, to_read) = mpsc::channel(TO_READ);
    let writer = tokio::spawn(write(stdin, to_write));
    let reader = tokio::spawn(read(stdout, tell));
    let record = spec.record.as_ref().and_then(|path| {
        let opened = Record::open(path, spec.redactor.clone());
        opened.inspect_err(|error| tracing::warn!(%error, "no record of the agent's lines")).ok()
    });
    let mut turn = Turn::new(conversation, spec, events, lines, record);
    let over = turn.serve(supervisor, to_read, control).await;
    let conversation = turn.conversation;
    drop(turn.lines);
    let status = match over {
        Over::Stopped(_) => None,
        // It said that it is over, or closed its output; now it may go by itself.
        Over::Said(_) | Over::Eof => timeout(GRACE, started.child.wait()).await.ok(),
    };
    let tail = match over {
        Over::Stopped(_) => String::new(),
        Over::Said(_) if !spec.heard => String::new(),
        Over::Said(_) | Over::Eof => {
            let tail = timeout(Duration::from_secs(1), tail).await;
            tail.ok().and_then(Result::ok).unwrap_or_default()
        }
    };
    if spec.heard {
        let code = status.as_ref().and_then(|status| status.as_ref().ok()?.code());
        let mut event = AgentEvent::Exited { code, stderr: tail.clone().into() };
        spec.redactor.event(&mut event);
        // Nobody may be listening any more.
        let _ = events.send(event).await;
    }
    reader.abort();
    writer.abort();
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
    if let Some(known) = conversation.closed(tail) {
        return known;
    }
    let how = match status {
        Some(Ok(status)) => status.to_string(),
        Some(Err(error)) => error.to_string(),
        None => "it closed its output and went on".into(),
    };
    match status {
        Some(Ok(status)) if matches!(status.code(), Some(126 | 127)) => {
            TurnEnd::NotStarted { why: tail.into() }
        }
        _ => {
            let why = format!("{how}, without saying that the turn is over; {}", tail.trim());
            TurnEnd::Crashed { why: why.into() }
        }
    }
}

/// How listening ended.
enum Over {
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

struct Turn<'a> {
    conversation: Box<dyn Conversation>,
    spec: &'a TurnSpec,
    events: &'a Events,
    lines: mpsc::Sender<Vec<u8>>,
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
    fn new(
        conversation: Box<dyn Conversation>,
        spec: &'a TurnSpec,
        events: &'a Events,
        lines: mpsc::Sender<Vec<u8>>,
        record: Option<Record>,
    ) -> Self {
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

    async fn serve(
        &mut self,
        supervisor: &Supervisor,
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
                    if let Some(end) = self.memory(supervisor) {
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
            self.tell(AgentEvent::Heard).await;
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
            AgentEvent::PermissionRequest { id, ask } if self.requests.len() < OPEN => {
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
                    Steer::No => {
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
                self.conversation.answer(&request, &answer, &mut said);
                let title = self.requests.remove(&request).unwrap_or_default();
                let answer = answer.line().into();
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

    fn memory(&self, supervisor: &Supervisor) -> Option<TurnEnd> {
        let most = self.spec.limits.memory;
        let used = supervisor.usage(&self.spec.owner).memory;
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

/// Reading is a task of its own: a select that drops a half-read line would lose it.
async fn read(stdout: ChildStdout, tell: mpsc::Sender<(Vec<u8>, bool)>) {
    let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
    let mut line = Vec::new();
    while let Ok(Some(cut)) = read_line(&mut stdout, LINE_LIMIT, &mut line).await {
        if tell.send((std::mem::take(&mut line), cut)).await.is_err() {
            break;
        }
    }
}

/// So is writing: an agent that does not read must not keep us from hearing it.
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
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..read]);
        let over = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..over);
    }
    String::from_utf8_lossy(&tail).into_owned()
}
