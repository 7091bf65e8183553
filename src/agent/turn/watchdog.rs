//! The watchdog of a turn: what counts as life, what a silence leads to, and which screens an agent
//! shows in place of working.
//!
//! | sign of life | for how long |
//! | --- | --- |
//! | a line of the agent | the silence limit |
//! | a tool that the agent has announced | the tool limit |
//! | a process of the turn that computes, or that began after the agent's latest lines | the tool limit |

use std::time::Duration;

use tokio::time::Instant;

use super::{InterruptCause, TurnLoop};
use crate::agent::screen::AgentScreen;
use crate::config::agent::Protocol;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::untrusted::Untrusted;
use crate::process::Usage;
use crate::sandbox::cgroup::MemoryExceeded;

/// The place where the agent of a turn runs.
pub(crate) trait TurnHost: Sync {
    /// The resources that the agent's processes use now; nothing for an agent in another place.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// The end of the agent's standard error so far.
    fn stderr(&self) -> String {
        String::new()
    }
}

/// The time after which a running tool is reported.
const TOOL_REPORTED: Duration = Duration::from_secs(10);
/// The CPU time between two checks that is work, in clock ticks: a tenth of a core. Idle programs on
/// Node use a few hundredths.
const WORK_TICKS: u64 = 20;
/// How long a sign of work counts: two checks.
const WORK_COUNTS: Duration = Duration::from_secs(5);
/// How long before the latest line of its agent a command may have begun.
const COMMAND_MARGIN: Duration = Duration::from_secs(10);

/// A tool that the agent uses.
#[derive(Debug)]
pub(super) struct OngoingTool {
    pub(super) title: Untrusted,
    since: Instant,
    /// The core knows that it runs.
    pub(super) reported: bool,
}

impl OngoingTool {
    pub(super) fn new(title: Untrusted) -> Self {
        Self { title, since: Instant::now(), reported: false }
    }
}

/// The signs of life of an agent.
#[derive(Debug)]
pub(super) struct Life {
    /// When the agent last sent a line or received an answer.
    pub(super) last_activity: Instant,
    /// When the agent had its session; what began before is no command.
    pub(super) session: Option<Instant>,
    /// The CPU time of its processes at the last check.
    ticks: u64,
    /// When its processes last worked.
    worked: Option<Instant>,
    /// The last text that was no line of the protocol.
    pub(super) screen: String,
}

impl Life {
    pub(super) fn new() -> Self {
        let last_activity = Instant::now();
        Self { last_activity, session: None, ticks: 0, worked: None, screen: String::new() }
    }

    fn is_working(&self) -> bool {
        self.worked.is_some_and(|at| at.elapsed() < WORK_COUNTS)
    }
}

impl TurnLoop<'_> {
    /// When the watchdog acts next, unless the agent sends something before.
    pub(super) fn watchdog_deadline(&self) -> Instant {
        if let Some((_, until)) = self.interrupted {
            return until;
        }
        let works = !self.tools.is_empty() || self.life.is_working();
        let patience = if self.quiet || works {
            self.interrupt_after(works)
        } else {
            self.spec.limits.silence
        };
        self.life.last_activity + patience
    }

    /// The silence after which the turn is interrupted; longer while a tool runs.
    fn interrupt_after(&self, works: bool) -> Duration {
        if self.spec.limits.may_be_silent {
            // Never before the limit of the turn, which counts from the agent's start.
            return self.spec.limits.turn.saturating_mul(2);
        }
        let twice = self.spec.limits.silence * 2;
        if works { twice.max(self.spec.limits.tool) } else { twice }
    }

    /// Reports the silence first, interrupts the turn next, and finally returns its end.
    pub(super) async fn on_silence(&mut self, host: &dyn TurnHost) -> Option<TurnEnd> {
        if let Some((cause, _)) = self.interrupted {
            return Some(match cause {
                InterruptCause::Watchdog => TurnEnd::Silent,
                other => other.end(),
            });
        }
        let seconds = self.life.last_activity.elapsed().as_secs();
        let interrupts = self.quiet;
        if !interrupts && let Some(dialog) = self.dialog(host) {
            if dialog != AgentScreen::Update {
                return Some(dialog.end());
            }
            let text = format!("the agent {}", dialog.as_str()).into();
            self.emit(AgentEvent::Notice { text }).await;
        }
        self.quiet = true;
        self.emit(AgentEvent::Quiet { seconds, interrupted: interrupts }).await;
        if interrupts {
            if !self.protocol.capabilities().interrupt {
                // The agent can't be interrupted: it has one more silence to send something.
                self.interrupted =
                    Some((InterruptCause::Watchdog, Instant::now() + self.spec.limits.silence));
                return None;
            }
            self.interrupt(InterruptCause::Watchdog);
            let until = Instant::now() + self.spec.limits.silence;
            self.interrupted = Some((InterruptCause::Watchdog, until));
        }
        None
    }

    /// The screen that the agent shows in place of working.
    fn dialog(&self, host: &dyn TurnHost) -> Option<AgentScreen> {
        AgentScreen::in_text(&self.life.screen).or_else(|| AgentScreen::in_text(&host.stderr()))
    }

    /// Remembers the events that are no words of a protocol.
    pub(super) fn note_screen(&mut self, events: &[AgentEvent]) {
        let is_text = self.spec.speaks == Protocol::Text;
        let screen = events.iter().rev().find_map(|event| match event {
            AgentEvent::Raw { line } => Some(line),
            AgentEvent::Text { text } if is_text => Some(text),
            _ => None,
        });
        match screen {
            Some(text) => {
                // A screen has several lines.
                self.life.screen.push_str(text.as_received());
                self.life.screen.push('\n');
                let excess = self.life.screen.len().saturating_sub(4096);
                let excess = self.life.screen.ceil_char_boundary(excess);
                self.life.screen.drain(..excess);
            }
            None if events.is_empty() => {}
            None => self.life.screen.clear(),
        }
    }

    /// Looks at the agent's processes: their memory, and whether they work.
    pub(super) fn check_usage(&mut self, usage: Usage) -> Option<TurnEnd> {
        let limit = self.spec.limits.memory;
        if usage.memory > limit {
            let why = MemoryExceeded { used: usage.memory, limit }.to_string();
            return Some(TurnEnd::OutOfMemory { why: why.into() });
        }
        let computes = usage.cpu_ticks.saturating_sub(self.life.ticks) >= WORK_TICKS;
        self.life.ticks = usage.cpu_ticks;
        if computes || self.runs_command(usage) {
            self.life.worked = Some(Instant::now());
        }
        None
    }

    /// Whether a process began after the session and around the latest lines of the agent, as a command
    /// does that the agent has not announced. afk's own protocol announces its tools.
    fn runs_command(&self, usage: Usage) -> bool {
        let (Some(age), Some(session)) = (usage.youngest, self.life.session) else { return false };
        let announces = matches!(self.spec.speaks, Protocol::Command | Protocol::Text);
        !announces
            && age + Duration::from_secs(1) < session.elapsed()
            && age < self.life.last_activity.elapsed() + COMMAND_MARGIN
    }

    /// Reports the tools that have been running for a while, once each.
    pub(super) async fn report_tools(&mut self) {
        let after = TOOL_REPORTED.min(self.spec.limits.silence);
        let mut events = Vec::new();
        for tool in self.tools.values_mut() {
            let elapsed = tool.since.elapsed();
            if !tool.reported && elapsed >= after {
                tool.reported = true;
                let (title, seconds) = (tool.title.clone(), elapsed.as_secs());
                events.push(AgentEvent::ToolRunning { title, seconds });
            }
        }
        for event in events {
            self.emit(event).await;
        }
    }
}
