//! Breakglass: who may use it now, what is under way at the host, and what came of it. A person
//! decides; nothing here is asked of a model, a tracker, a cluster or a name server.

mod ask;
mod drill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use ask::{Ask, Confirm, No};

use super::digest::Digest;
use super::id::{Actor, Timestamp};
use super::policy::MINUTE;
use super::untrusted::Untrusted;

/// Ended verbs that are listed.
const PAST: usize = 50;
/// Captures and recordings that are listed; their files are kept by their age.
const KEPT: usize = 200;

/// What can be asked of the hypervisor; one bare word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// What the monitor says.
    Status,
    /// What can be seen of it from the host.
    Forensics,
    /// Stop, kill if need be, start.
    Cycle,
    /// Power on.
    Start,
    /// Power off.
    Stop,
    /// Reboot in the same process.
    Reset,
}

impl Verb {
    /// All of them, the readers first, then recovery.
    pub const ALL: [Self; 6] =
        [Self::Status, Self::Forensics, Self::Cycle, Self::Start, Self::Stop, Self::Reset];

    /// The word that the host gets.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Forensics => "forensics",
            Self::Cycle => "cycle",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reset => "reset",
        }
    }

    /// Reads a word, whole.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// Whether it changes anything.
    #[must_use]
    pub const fn mutates(self) -> bool {
        !matches!(self, Self::Status | Self::Forensics)
    }

    /// What it does, said before it runs.
    #[must_use]
    pub const fn explains(self) -> &'static str {
        match self {
            Self::Status => {
                "what the monitor says; \"running\" never proves health: a guest frozen by stalled \
                 I/O reads \"running\""
            }
            Self::Forensics => {
                "what the host sees of the VM; up to two minutes; it changes nothing"
            }
            Self::Cycle => {
                "recovery: forensics, stop (and a kill where it does not stop), start; a fresh QEMU \
                 process, which applies staged configuration; up to 4 minutes"
            }
            Self::Start => "forensics, then power on",
            Self::Stop => "forensics, then power off at once, as if the plug were pulled",
            Self::Reset => {
                "forensics, then a reboot inside the same QEMU process: it does not cure stalled \
                 I/O and applies no staged configuration; cycle does"
            }
        }
    }
}

/// A verb's run, in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VerbId(pub u64);

impl fmt::Display for VerbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A shell, in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShellId(pub u64);

impl fmt::Display for ShellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// The rules of breakglass; none in the policy where it isn't configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The VM's name: what is typed to confirm.
    pub vm: String,
    /// The hypervisor's name among the pins.
    pub hypervisor: String,
    /// Hosts that a shell can be opened on.
    pub hosts: BTreeSet<String>,
    /// How long an arming lasts, in milliseconds.
    pub arm_ms: i64,
    /// Mutating verbs in ten minutes that need no second word.
    pub mutations: usize,
    /// How often the drill is due, in milliseconds; none is never.
    pub drill_ms: Option<i64>,
    /// The age of the last good drill that is an alarm, in milliseconds.
    pub drill_red_ms: i64,
    /// Whether an agent may be asked what may be wrong.
    pub diagnoses: bool,
}

/// In which mutating verbs are counted.
pub const WINDOW: i64 = 10 * MINUTE;

/// Who may use breakglass now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arming {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: Untrusted,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// How a verb ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum VerbResult {
    /// The host told an exit code.
    Exited {
        /// 0 is success; 2 refused, 75 another one is under way.
        code: u32,
    },
    /// It never began: nothing was changed.
    NotBegun {
        /// Why.
        why: Untrusted,
    },
    /// Nobody here knows: it may have been done, and may still go on.
    Unknown {
        /// Why.
        why: Untrusted,
    },
}

impl VerbResult {
    /// In a few words.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Exited { code: 0 } => "exit 0".into(),
            Self::Exited { code: 2 } => "refused by the host (exit 2)".into(),
            Self::Exited { code: 75 } => "busy: another verb is under way (exit 75)".into(),
            Self::Exited { code } => format!("failed, exit {code}"),
            Self::NotBegun { why } => format!("did not begin: {}", why.clean_line()),
            Self::Unknown { why } => format!("UNKNOWN: {}", why.clean_line()),
        }
    }

    /// The host did it.
    #[must_use]
    pub const fn good(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

/// What a verb left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbEnd {
    /// How.
    pub result: VerbResult,
    /// What the VM reads, where it was told.
    pub reads: Option<Untrusted>,
    /// The host's name of the last mutating verb that it knows.
    pub request: Option<Untrusted>,
    /// What was kept of its output.
    pub capture: Option<Capture>,
}

/// Output that was kept, named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Its content's.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Whether the disk has it; memory alone otherwise.
    pub stored: bool,
    /// The output was longer than what is kept.
    pub cut: bool,
}

/// One use of a verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbRun {
    /// Its number.
    pub id: VerbId,
    /// Which.
    pub verb: Verb,
    /// Who asked; `afk` for the drill and for what is read back.
    pub by: Actor,
    /// From where.
    pub origin: String,
    /// Since when.
    pub began: Timestamp,
    /// Whether it is part of the drill.
    #[serde(default)]
    pub drill: bool,
    /// How and when it ended.
    pub end: Option<(Timestamp, VerbEnd)>,
}

/// One shell that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// Where.
    pub host: String,
    /// Whose.
    pub by: Actor,
    /// Since when.
    pub since: Timestamp,
}

/// The output of a shell that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Of which shell.
    pub shell: ShellId,
    /// On which host.
    pub host: String,
    /// Whose.
    pub by: Actor,
    /// When it began.
    pub at: Timestamp,
    /// How long, in milliseconds.
    pub ms: i64,
    /// The file's name in the folder of recordings.
    pub file: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Happened {
    /// Somebody may use it for a while.
    Armed {
        /// Who, why and until when.
        arming: Arming,
    },
    /// Nobody may any more.
    Disarmed {
        /// Why.
        why: String,
    },
    /// A verb is sent to the host.
    Begun {
        /// Which.
        run: VerbRun,
    },
    /// It ended.
    Ended {
        /// Which.
        verb: VerbId,
        /// How.
        end: VerbEnd,
    },
    /// A shell is opened.
    Opened {
        /// Its number.
        shell: ShellId,
        /// Where, and whose.
        of: Shell,
    },
    /// It is closed.
    Closed {
        /// Which.
        shell: ShellId,
        /// Why.
        why: Untrusted,
        /// What was kept of it.
        recording: Option<Recording>,
    },
    /// A person accepted the key of a host that was built anew.
    KeyTrusted {
        /// Which host's.
        host: String,
        /// Who.
        by: Actor,
        /// The fingerprint before, where there was one.
        old: Option<String>,
        /// The fingerprint now.
        new: String,
    },
    /// Both verbs of the drill were good.
    Drilled,
    /// An agent was asked what may be wrong.
    Diagnosing {
        /// By whom.
        by: Actor,
    },
    /// It answered.
    Diagnosed {
        /// What, from its first line.
        said: Untrusted,
    },
}

/// What the runtime is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Send a verb to the host, and tell how it ended.
    Verb {
        /// Its number.
        id: VerbId,
        /// Which.
        verb: Verb,
        /// The host's name of the last mutating verb that we know of.
        known: Option<Untrusted>,
    },
    /// Open a shell for a client that comes for it.
    Shell {
        /// Its number.
        id: ShellId,
        /// Where.
        host: String,
        /// Whose.
        by: Actor,
    },
    /// Close every shell.
    CloseShells {
        /// Why.
        why: String,
    },
    /// Pin a host's key.
    Trust {
        /// Which host's.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
    },
    /// Ask an agent what may be wrong.
    Diagnose,
}

/// What the runtime tells.
#[derive(Debug, Clone)]
pub enum Fact {
    /// A verb ended.
    Ended {
        /// Which.
        verb: VerbId,
        /// How.
        end: VerbEnd,
    },
    /// A shell is closed.
    Closed {
        /// Which.
        shell: ShellId,
        /// Why.
        why: Untrusted,
        /// What was kept of it.
        recording: Option<Recording>,
    },
    /// An agent said what may be wrong.
    Diagnosed {
        /// In full.
        text: Untrusted,
        /// The verb that it would use.
        proposes: Option<Verb>,
    },
}

/// When the access itself was proved the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Since when it is expected.
    pub since: Option<Timestamp>,
    /// The last good one.
    pub good: Option<Timestamp>,
    /// The last try.
    pub tried: Option<Timestamp>,
    /// The verb of it that is under way.
    pub verb: Option<VerbId>,
}

/// All that is known of breakglass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakglass {
    /// Who may use it.
    pub armed: Option<Arming>,
    /// Verbs that have not ended.
    pub under_way: BTreeMap<VerbId, VerbRun>,
    /// Those that have, the newest last.
    pub past: VecDeque<VerbRun>,
    /// When mutating verbs began.
    pub mutations: VecDeque<Timestamp>,
    /// What the VM read the last time, and when.
    pub reads: Option<(Timestamp, Untrusted)>,
    /// The host's name of the last mutating verb that it told.
    pub request: Option<Untrusted>,
    /// Forensics that were kept, the newest last.
    pub captures: VecDeque<(VerbId, Timestamp, Capture)>,
    /// Shells that are open.
    pub shells: BTreeMap<ShellId, Shell>,
    /// Shells that were kept, the newest last.
    pub recordings: VecDeque<Recording>,
    /// The drill.
    pub drill: Drill,
    /// An agent is asked what may be wrong, since then.
    pub diagnosing: Option<Timestamp>,
    /// What an agent said last.
    pub diagnosis: Option<(Timestamp, Untrusted)>,
    next_verb: u64,
    next_shell: u64,
}

impl Breakglass {
    /// The mutating verb that is under way.
    #[must_use]
    pub fn mutation(&self) -> Option<&VerbRun> {
        self.under_way.values().find(|run| run.verb.mutates())
    }

    /// Mutating verbs in the ten minutes before a time.
    #[must_use]
    pub fn recent(&self, at: Timestamp) -> usize {
        self.mutations.iter().filter(|began| at.since(**began) < WINDOW).count()
    }

    /// What a person sees who confirms a verb: it binds the confirmation to the verb, the VM, who
    /// is armed, what the VM reads and what was done last.
    #[must_use]
    pub fn seen(&self, verb: Verb, vm: &str) -> Digest {
        let armed = self.armed.as_ref().map(|arming| arming.by.0.clone());
        let reads = self.reads.as_ref().map(|(_, word)| word.as_received().to_owned());
        let last = self.past.iter().rev().find(|run| run.verb.mutates()).map(|run| run.id.0);
        let last = self.mutation().map(|run| run.id.0).or(last);
        Digest::of(&[
            verb.word().as_bytes(),
            vm.as_bytes(),
            armed.unwrap_or_default().as_bytes(),
            reads.unwrap_or_default().as_bytes(),
            &last.unwrap_or_default().to_be_bytes(),
        ])
    }

    /// Since when the drill is an alarm; none while it is not.
    #[must_use]
    pub fn drill_red(&self, at: Timestamp, rules: &Rules) -> Option<Timestamp> {
        rules.drill_ms?;
        let red = self.drill.good.or(self.drill.since)?.plus(rules.drill_red_ms);
        (red <= at).then_some(red)
    }

    /// The number of the next verb.
    pub(super) const fn next_verb(&self) -> VerbId {
        VerbId(self.next_verb + 1)
    }

    /// The number of the next shell.
    pub(super) const fn next_shell(&self) -> ShellId {
        ShellId(self.next_shell + 1)
    }

    /// Changes it by what happened; total.
    pub(super) fn apply(&mut self, at: Timestamp, what: &Happened) {
        match what {
            Happened::Armed { arming } => self.armed = Some(arming.clone()),
            Happened::Disarmed { .. } => self.armed = None,
            Happened::Begun { run } => {
                self.next_verb = self.next_verb.max(run.id.0);
                if run.verb.mutates() {
                    self.mutations.push_back(at);
                    self.mutations.retain(|began| at.since(*began) < WINDOW);
                }
                if run.drill {
                    (self.drill.tried, self.drill.verb) = (Some(at), Some(run.id));
                }
                self.under_way.insert(run.id, run.clone());
            }
            Happened::Ended { verb, end } => self.ended(at, *verb, end),
            Happened::Opened { shell, of } => {
                self.next_shell = self.next_shell.max(shell.0);
                self.shells.insert(*shell, of.clone());
            }
            Happened::Closed { shell, recording, .. } => {
                self.shells.remove(shell);
                if let Some(recording) = recording {
                    push(&mut self.recordings, recording.clone(), KEPT);
                }
            }
            Happened::KeyTrusted { .. } => {}
            Happened::Drilled => self.drill.good = Some(at),
            Happened::Diagnosing { .. } => self.diagnosing = Some(at),
            Happened::Diagnosed { said } => {
                self.diagnosing = None;
                self.diagnosis = Some((at, said.clone()));
            }
        }
    }

    fn ended(&mut self, at: Timestamp, verb: VerbId, end: &VerbEnd) {
        let Some(mut run) = self.under_way.remove(&verb) else { return };
        if run.verb.mutates() && matches!(end.result, VerbResult::NotBegun { .. }) {
            self.mutations.retain(|began| *began != run.began);
        }
        if let Some(reads) = &end.reads {
            self.reads = Some((at, reads.clone()));
        }
        if let Some(request) = &end.request {
            self.request = Some(request.clone());
        }
        if let Some(capture) = &end.capture
            && run.verb != Verb::Status
        {
            push(&mut self.captures, (run.id, at, capture.clone()), KEPT);
        }
        if self.drill.verb == Some(verb) {
            self.drill.verb = None;
        }
        run.end = Some((at, end.clone()));
        push(&mut self.past, run, PAST);
    }

    /// From the first time that it is configured its drill is expected.
    pub(super) fn configured(&mut self, at: Timestamp) {
        self.drill.since.get_or_insert(at);
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    list.push_back(item);
    if list.len() > most {
        list.pop_front();
    }
}
