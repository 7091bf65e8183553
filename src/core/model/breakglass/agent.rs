//! The breakglass agent: a coding agent that may use a host and the verbs through tools of afk, and
//! never with a key of its own.
//!
//! ```text
//! agent ─ tool ─▶ runtime ─ AgentCalled ─▶ step ─▶ allow: the command or the verb
//!                                               ├▶ ask: a permission in the inbox
//!                                               └▶ refuse
//!       ◀ text ──────────── AgentReply ◀────────┘
//! ```
//!
//! [`crate::tables::breakglass_agent`] decides about each call.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::shell::ShellId;
use super::verb::{Verb, VerbId};
use crate::model::id::{Actor, EscalationId};
use crate::model::permission::{MAX_TARGET, PermissionRequest, Tool};
use crate::model::time::{MINUTE, Timestamp};
use crate::model::untrusted::{Untrusted, clean};

/// What the breakglass agent may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentLevel {
    /// Read evidence that afk collects, and propose a verb.
    Read,
    /// Ask a person for each command and each verb.
    Ask,
    /// Act by itself, within an arming and a number of mutating verbs.
    Act,
}

impl AgentLevel {
    /// The level's name in the configuration and on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Ask => "ask",
            Self::Act => "act",
        }
    }
}

/// The configured limits of the breakglass agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRules {
    /// The agent's name in the configuration.
    pub agent: String,
    /// The most that a session may do by itself.
    pub level: AgentLevel,
    /// The host of its commands; none at the level `read`.
    pub host: Option<String>,
    /// The most mutating verbs that a person may allow for a session at the level `act`.
    pub mutations: usize,
    /// The most calls within a minute.
    pub calls_a_minute: usize,
}

/// A call's number within its session; shown as `c7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentCallId(pub u64);

impl fmt::Display for AgentCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A tool that the agent calls, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "tool")]
pub enum AgentTool {
    /// Runs a command on the session's host.
    Command {
        /// The whole command, for the shell of the host's account.
        command: Untrusted,
    },
    /// Sends a verb to the hypervisor.
    Verb {
        /// The verb to send.
        verb: Verb,
    },
    /// Writes a remark for the operators.
    Note {
        /// The remark in the agent's words.
        text: Untrusted,
    },
    /// A call of no tool of afk, or with wrong arguments; always refused.
    Unknown {
        /// The call as it was received, cut to a bound.
        call: Untrusted,
    },
}

impl AgentTool {
    /// The call in one line, for records and the screen.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Command { command } => format!("$ {}", command.clean_line()),
            Self::Verb { verb } => verb.as_str().to_owned(),
            Self::Note { text } => format!("note: {}", text.clean_line()),
            Self::Unknown { call } => format!("unknown call {}", call.clean_line()),
        }
    }

    /// The request that a person is asked to permit; its only target is the whole command or the verb.
    #[must_use]
    pub fn permission(&self, host: &str, vm: &str) -> PermissionRequest {
        let (tool, title, target) = match self {
            Self::Command { command } => {
                (Tool::Shell, format!("run on {host}: {}", command.clean_line()), command.clone())
            }
            Self::Verb { verb } => {
                (Tool::Other, format!("{} {vm}", verb.as_str()), verb.as_str().into())
            }
            Self::Note { text } | Self::Unknown { call: text } => {
                (Tool::Other, text.clean_line(), text.clone())
            }
        };
        let detail = Untrusted::default();
        PermissionRequest {
            tool,
            title: title.into(),
            detail,
            targets: vec![target],
            editable: false,
        }
    }

    /// The call as a record of a refusal keeps it: its text is cut after [`REFUSED_TEXT`] characters. Only
    /// for a call that was judged: the beginning of a command is another command.
    #[must_use]
    pub fn refused(mut self) -> Self {
        match &mut self {
            Self::Verb { .. } => {}
            Self::Command { command: text }
            | Self::Note { text }
            | Self::Unknown { call: text } => {
                let whole = text.as_received();
                if let Some((end, _)) = whole.char_indices().nth(REFUSED_TEXT) {
                    *text = format!("{}…", &whole[..end]).into();
                }
            }
        }
        self
    }

    /// The reason why nobody can allow the call; none for a sound one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let text = match self {
            Self::Verb { .. } => return None,
            Self::Unknown { .. } => {
                return Some("there is no such tool, verb or argument; nothing was done");
            }
            Self::Command { command: text } | Self::Note { text } => text.as_received(),
        };
        if text.trim().is_empty() {
            Some("the text is empty")
        } else if text.len() > MAX_TARGET {
            Some("the text is longer than a person can judge")
        } else if clean(text) != text {
            Some("the text has characters that a person can't see")
        } else {
            None
        }
    }
}

/// The kind of call that a person allows for the rest of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "allow")]
pub enum AgentGrant {
    /// Exactly this command, and no other one.
    Exactly {
        /// The whole command as it was shown.
        command: Untrusted,
    },
    /// A program that only reads, with any plain arguments.
    Program {
        /// The program's name, without a folder.
        program: String,
    },
    /// One verb, as often as the rate limit allows.
    Verb {
        /// The verb that is allowed.
        verb: Verb,
    },
}

/// Programs that write, start and end nothing, whatever their arguments are. Shells, interpreters and
/// programs that run others are left out, and so is `sudo`.
const READERS: &[&str] = &[
    "cat", "df", "du", "free", "grep", "head", "id", "iostat", "ls", "lsblk", "mpstat", "pgrep",
    "ps", "stat", "tail", "uname", "uptime", "vmstat", "w", "wc", "who",
];

/// The program of a command without shell syntax.
fn plain_program(command: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " /._-=:,+@%".contains(c);
    command.chars().all(is_plain).then(|| command.split(' ').find(|word| !word.is_empty()))?
}

impl AgentGrant {
    /// The kind of a call; none for one that nobody is asked about.
    #[must_use]
    pub fn of(tool: &AgentTool) -> Option<Self> {
        match tool {
            AgentTool::Command { command } => {
                Some(match plain_program(command.as_received()).filter(|p| READERS.contains(p)) {
                    Some(program) => Self::Program { program: program.to_owned() },
                    None => Self::Exactly { command: command.clone() },
                })
            }
            AgentTool::Verb { verb } => Some(Self::Verb { verb: *verb }),
            AgentTool::Note { .. } | AgentTool::Unknown { .. } => None,
        }
    }

    /// Whether the grant allows a call.
    pub(crate) fn covers(&self, tool: &AgentTool) -> bool {
        Self::of(tool).is_some_and(|kind| kind == *self)
    }

    /// The grant's effect, shown before a person gives it.
    #[must_use]
    pub fn means(&self) -> String {
        match self {
            Self::Exactly { .. } => "exactly this command".into(),
            Self::Program { program } => format!("{program} with any arguments"),
            Self::Verb { verb } if verb.mutates() => {
                format!("the verb {}, up to the rate limit", verb.as_str())
            }
            Self::Verb { verb } => format!("the verb {}", verb.as_str()),
        }
    }
}

/// The decision about a call when it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "decision")]
pub enum AgentDecision {
    /// The level or a grant allows it.
    Allowed,
    /// A person is asked.
    Asked {
        /// The permission in the inbox.
        escalation: EscalationId,
    },
    /// A rule forbids it.
    Refused {
        /// The rule, in words for the agent.
        why: String,
    },
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCall {
    /// The call's number within its session.
    pub id: AgentCallId,
    /// The tool and its arguments.
    pub tool: AgentTool,
    /// The time of the call.
    pub at: Timestamp,
    /// The first decision about it.
    pub decision: AgentDecision,
    /// The verb that it began.
    pub verb: Option<VerbId>,
    /// The end in one line, once known, and whether it succeeded.
    pub end: Option<(bool, Untrusted)>,
}

/// The start of a session: what a person allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentTerms {
    /// The session's number, which its recording has as well.
    pub id: ShellId,
    /// The agent's name in the configuration.
    pub agent: String,
    /// The operator who started it, in whose arming it works.
    pub by: Actor,
    /// What it may do by itself.
    pub level: AgentLevel,
    /// The host of its commands.
    pub host: String,
    /// The mutating verbs that it may still begin by itself.
    pub mutations: usize,
}

/// A session of the breakglass agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSession {
    /// What a person allowed; `mutations` counts down.
    pub terms: AgentTerms,
    /// The start of the session.
    pub since: Timestamp,
    /// The kinds of calls that a person allowed for the rest of it.
    pub grants: Vec<AgentGrant>,
    /// Whether it has seen the forensics that precede a mutating verb.
    pub has_forensics: bool,
    /// The times of its calls within the last minute.
    pub recent: VecDeque<Timestamp>,
    /// The calls without an end.
    pub open: BTreeMap<AgentCallId, AgentCall>,
    /// The latest ended calls, newest last.
    pub past: VecDeque<AgentCall>,
}

/// How many ended calls of a session stay listed.
const PAST_CALLS: usize = 50;
/// The most calls of a session without an end.
pub const OPEN_CALLS: usize = 8;
/// The most characters that are kept of a refused call.
pub const REFUSED_TEXT: usize = 500;

impl AgentSession {
    pub(crate) const fn new(terms: AgentTerms, since: Timestamp) -> Self {
        Self {
            terms,
            since,
            grants: Vec::new(),
            has_forensics: false,
            recent: VecDeque::new(),
            open: BTreeMap::new(),
            past: VecDeque::new(),
        }
    }

    /// How many calls came within the minute before `at`.
    pub(crate) fn calls_in_minute(&self, at: Timestamp) -> usize {
        self.recent.iter().filter(|call| at.since(**call) < MINUTE).count()
    }

    /// The actor of the verbs that it begins.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor(format!("{}'s agent", self.terms.by))
    }

    pub(crate) fn called(&mut self, at: Timestamp, call: AgentCall) {
        self.recent.push_back(at);
        self.recent.retain(|call| at.since(*call) < MINUTE);
        self.open.insert(call.id, call);
    }

    pub(crate) fn call_ended(&mut self, id: AgentCallId, ok: bool, said: &Untrusted) {
        let Some(mut call) = self.open.remove(&id) else { return };
        if ok
            && call.verb.is_some()
            && matches!(call.tool, AgentTool::Verb { verb: Verb::Forensics })
        {
            self.has_forensics = true;
        }
        call.end = Some((ok, said.clone()));
        self.past.push_back(call);
        if self.past.len() > PAST_CALLS {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> AgentTool {
        AgentTool::Command { command: text.into() }
    }

    #[test]
    fn refused_call_keeps_the_beginning_of_its_text() {
        let long = "é".repeat(100_000);
        let text = |tool: AgentTool| match tool {
            AgentTool::Command { command: text }
            | AgentTool::Note { text }
            | AgentTool::Unknown { call: text } => text.as_received().to_owned(),
            AgentTool::Verb { verb } => verb.as_str().to_owned(),
        };
        let kept = format!("{}…", "é".repeat(REFUSED_TEXT));
        for tool in [
            command(&long),
            AgentTool::Note { text: long.as_str().into() },
            AgentTool::Unknown { call: long.as_str().into() },
        ] {
            assert_eq!(text(tool.refused()), kept);
        }
        let whole = "é".repeat(REFUSED_TEXT);
        assert_eq!(text(command(&whole).refused()), whole);
        assert_eq!(text(AgentTool::Verb { verb: Verb::Stop }.refused()), "stop");
    }

    #[test]
    fn grant_covers_its_kind_and_nothing_that_runs_more() {
        let kind = |text: &str| AgentGrant::of(&command(text)).unwrap();
        let tail = kind("tail -n 50 /var/log/syslog");
        assert_eq!(tail, AgentGrant::Program { program: "tail".into() });
        assert!(tail.covers(&command("tail -n 5 /etc/hosts")));
        for other in [
            "tail x; reboot",
            "tail x | sh",
            "tail $(reboot)",
            "tail x > /etc/passwd",
            "tail x\nreboot",
            "tail `id`",
            "sudo tail x",
            "cat x",
            "/tmp/tail x",
        ] {
            assert!(!tail.covers(&command(other)), "{other}");
        }
        for exact in ["sudo reboot", "bash -c ls", "find / -exec rm x", "systemctl restart x"] {
            let grant = kind(exact);
            assert!(matches!(grant, AgentGrant::Exactly { .. }), "{exact}");
            assert!(
                grant.covers(&command(exact)) && !grant.covers(&command(&format!("{exact} y")))
            );
        }
        let verb = |verb| AgentTool::Verb { verb };
        let grant = AgentGrant::of(&verb(Verb::Status)).unwrap();
        assert!(grant.covers(&verb(Verb::Status)) && !grant.covers(&verb(Verb::Stop)));
        assert_eq!(AgentGrant::of(&AgentTool::Note { text: "x".into() }), None);
    }
}
