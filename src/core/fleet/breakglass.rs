//! The state of breakglass: the arming, the verbs, shells and files of the host, and the drill.
//! `Fleet::apply` changes it by breakglass events; the step, the pane and the API read it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::breakglass::{
    AgentCall, AgentDecision, AgentSession, AgentTool, BreakglassArming, BreakglassEvent,
    BreakglassRules, Capture, OpenShell, Recording, ShellId, Verb, VerbEnd, VerbId, VerbResult,
    VerbRun, WINDOW,
};
use crate::model::digest::Digest;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::untrusted::Untrusted;

/// How many ended verbs stay listed.
const PAST_VERBS: usize = 50;
/// How many captures and recordings stay listed; the runtime deletes their files by age.
const LISTED_FILES: usize = 200;
/// The least time between two attempts of a failing drill, in milliseconds.
const DRILL_RETRY: i64 = 60 * MINUTE;

/// The drill that proves the access to the hypervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// When breakglass was first configured, from which a drill is expected.
    pub since: Option<Timestamp>,
    /// When the last drill succeeded.
    pub good: Option<Timestamp>,
    /// When the last drill began.
    pub tried: Option<Timestamp>,
    /// The drill's verb that is in progress.
    pub verb: Option<VerbId>,
}

/// The state of breakglass as a fold of its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakglassState {
    /// The arming in force, with its actor and its end.
    pub armed: Option<BreakglassArming>,
    /// The verbs that have not ended.
    pub under_way: BTreeMap<VerbId, VerbRun>,
    /// The latest ended verbs, newest last.
    pub past: VecDeque<VerbRun>,
    /// When the mutating verbs of the last ten minutes began.
    pub mutations: VecDeque<Timestamp>,
    /// The VM's last known status, and when it was read.
    pub reads: Option<(Timestamp, Untrusted)>,
    /// The host's warnings at that reading: what makes a verb end in another way than it usually does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Untrusted>,
    /// The host's id of the last mutating verb that it reported.
    pub request: Option<Untrusted>,
    /// The latest captures of forensics, newest last.
    pub captures: VecDeque<(VerbId, Timestamp, Capture)>,
    /// The shells that are open now.
    pub shells: BTreeMap<ShellId, OpenShell>,
    /// The latest recordings of shells, newest last.
    pub recordings: VecDeque<Recording>,
    /// The state of the drill.
    pub drill: Drill,
    /// When the diagnosis in progress began, if an agent diagnoses.
    pub diagnosing: Option<Timestamp>,
    /// The last diagnosis, and when it ended.
    pub diagnosis: Option<(Timestamp, Untrusted)>,
    /// The session of the breakglass agent that works now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<AgentSession>>,
    /// The last session that ended, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_agent: Option<Box<(AgentSession, Untrusted)>>,
    next_verb: u64,
    next_shell: u64,
}

impl BreakglassState {
    /// The mutating verb that is in progress; there is at most one.
    #[must_use]
    pub fn mutation(&self) -> Option<&VerbRun> {
        self.under_way.values().find(|run| run.verb.mutates())
    }

    /// How many mutating verbs began in the ten minutes before `at`.
    #[must_use]
    pub fn recent(&self, at: Timestamp) -> usize {
        self.mutations.iter().filter(|began| at.since(**began) < WINDOW).count()
    }

    /// The capture of a verb and the capture before it, older first; none where either is missing,
    /// as for `status`, whose captures are not listed.
    #[must_use]
    pub fn captures_to_compare(&self, verb: VerbId) -> Option<[&Capture; 2]> {
        let new = self.captures.iter().position(|(of, ..)| *of == verb)?;
        let old = new.checked_sub(1)?;
        Some([old, new].map(|at| &self.captures[at].2))
    }

    /// The digest of what a person sees when confirming a verb. It binds the confirmation to the
    /// verb, the VM, the armed actor, the VM's status and the last mutating verb.
    #[must_use]
    pub fn seen(&self, verb: Verb, vm: &str) -> Digest {
        let armed = self.armed.as_ref().map(|arming| arming.by.0.clone());
        let reads = self.reads.as_ref().map(|(_, status)| status.as_received().to_owned());
        let last = self.past.iter().rev().find(|run| run.verb.mutates()).map(|run| run.id.0);
        let last = self.mutation().map(|run| run.id.0).or(last).unwrap_or_default().to_be_bytes();
        let (armed, reads) = (armed.unwrap_or_default(), reads.unwrap_or_default());
        let known: [&[u8]; 5] =
            [verb.as_str().as_bytes(), vm.as_bytes(), armed.as_bytes(), reads.as_bytes(), &last];
        let warnings = self.warnings.iter().map(|warning| warning.as_received().as_bytes());
        Digest::of(&known.into_iter().chain(warnings).collect::<Vec<_>>())
    }

    /// Since when the drill is overdue; none while it is in time or not configured.
    #[must_use]
    pub fn drill_red(&self, at: Timestamp, rules: &BreakglassRules) -> Option<Timestamp> {
        rules.drill_ms?;
        let red = self.drill.good.or(self.drill.since)?.plus(rules.drill_red_ms);
        (red <= at).then_some(red)
    }

    /// The earliest time at which a tick changes this state.
    #[must_use]
    pub fn next_deadline(&self, rules: Option<&BreakglassRules>) -> Option<Timestamp> {
        let expiry = self.armed.as_ref().map(|arming| arming.until);
        let drill = rules.and_then(|rules| self.next_drill(rules));
        expiry.into_iter().chain(drill).min()
    }

    /// When the next drill is due; none while one is in progress.
    pub(crate) fn next_drill(&self, rules: &BreakglassRules) -> Option<Timestamp> {
        let every = rules.drill_ms?;
        if self.drill.verb.is_some() {
            return None;
        }
        let due = match self.drill.good {
            Some(good) => good.plus(every),
            None => self.drill.since?,
        };
        Some(self.drill.tried.map_or(due, |tried| due.max(tried.plus(DRILL_RETRY))))
    }

    /// The id that the next verb gets.
    pub(crate) const fn next_verb(&self) -> VerbId {
        VerbId(self.next_verb + 1)
    }

    /// The id that the next shell gets.
    pub(crate) const fn next_shell(&self) -> ShellId {
        ShellId(self.next_shell + 1)
    }

    /// Changes the state by one event; total.
    pub(super) fn apply(&mut self, at: Timestamp, what: &BreakglassEvent) {
        match what {
            BreakglassEvent::Armed { arming } => self.armed = Some(arming.clone()),
            BreakglassEvent::Disarmed { .. } => self.armed = None,
            BreakglassEvent::Begun { run } => {
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
            BreakglassEvent::Ended { verb, end } => self.verb_ended(at, *verb, end),
            BreakglassEvent::Opened { shell, of } => {
                self.next_shell = self.next_shell.max(shell.0);
                self.shells.insert(*shell, of.clone());
            }
            BreakglassEvent::Closed { shell, recording, .. } => {
                self.shells.remove(shell);
                if let Some(recording) = recording {
                    push(&mut self.recordings, recording.clone(), LISTED_FILES);
                }
            }
            BreakglassEvent::KeyTrusted { .. } => {}
            BreakglassEvent::Drilled => self.drill.good = Some(at),
            BreakglassEvent::Diagnosing { .. } => self.diagnosing = Some(at),
            BreakglassEvent::Diagnosed { said } => {
                self.diagnosing = None;
                self.diagnosis = Some((at, said.clone()));
            }
            BreakglassEvent::AgentStarted { terms } => {
                self.next_shell = self.next_shell.max(terms.id.0);
                self.agent = Some(Box::new(AgentSession::new(terms.clone(), at)));
            }
            BreakglassEvent::AgentEnded { why } => {
                if let Some(mut session) = self.agent.take() {
                    let open: Vec<_> = session.open.keys().copied().collect();
                    for call in open {
                        session.call_ended(call, false, &"the session ended".into());
                    }
                    self.past_agent = Some(Box::new((*session, why.clone())));
                }
            }
            BreakglassEvent::AgentCalled { .. }
            | BreakglassEvent::AgentAllowed { .. }
            | BreakglassEvent::AgentBegan { .. }
            | BreakglassEvent::AgentCallEnded { .. } => self.agent_event(at, what),
        }
    }

    fn agent_event(&mut self, at: Timestamp, what: &BreakglassEvent) {
        let Some(session) = &mut self.agent else { return };
        match what {
            BreakglassEvent::AgentCalled { call, tool, decision } => {
                let (id, tool, decision) = (*call, tool.clone(), decision.clone());
                let refused = match &decision {
                    AgentDecision::Refused { why } => Some(why.as_str().into()),
                    AgentDecision::Allowed | AgentDecision::Asked { .. } => None,
                };
                session.called(at, AgentCall { id, tool, at, decision, verb: None, end: None });
                if let Some(why) = refused {
                    session.call_ended(id, false, &why);
                }
            }
            BreakglassEvent::AgentAllowed { grant, .. } => session.grants.extend(grant.clone()),
            BreakglassEvent::AgentBegan { call, verb } => {
                if let Some(call) = session.open.get_mut(call) {
                    call.verb = Some(*verb);
                    if matches!(call.tool, AgentTool::Verb { verb } if verb.mutates()) {
                        session.terms.mutations = session.terms.mutations.saturating_sub(1);
                    }
                }
            }
            BreakglassEvent::AgentCallEnded { call, ok, said } => {
                session.call_ended(*call, *ok, said);
            }
            _ => {}
        }
    }

    fn verb_ended(&mut self, at: Timestamp, verb: VerbId, end: &VerbEnd) {
        let Some(mut run) = self.under_way.remove(&verb) else { return };
        if run.verb.mutates() && matches!(end.result, VerbResult::NotBegun { .. }) {
            self.mutations.retain(|began| *began != run.began);
        }
        if let Some(reads) = &end.reads {
            self.reads = Some((at, reads.clone()));
        }
        if end.reads.is_some() || !end.warnings.is_empty() {
            self.warnings.clone_from(&end.warnings);
        }
        if let Some(request) = &end.request {
            self.request = Some(request.clone());
        }
        if let Some(capture) = &end.capture
            && run.verb != Verb::Status
        {
            push(&mut self.captures, (run.id, at, capture.clone()), LISTED_FILES);
        }
        if self.drill.verb == Some(verb) {
            self.drill.verb = None;
        }
        run.end = Some((at, end.clone()));
        push(&mut self.past, run, PAST_VERBS);
    }

    /// Applies `back` to every time that a deadline follows from, because the clock was set back.
    pub(super) fn set_back(&mut self, back: &dyn Fn(&mut Timestamp)) {
        if let Some(armed) = &mut self.armed {
            back(&mut armed.since);
            back(&mut armed.until);
        }
        self.mutations.iter_mut().for_each(back);
        let Drill { since, good, tried, .. } = &mut self.drill;
        [since, good, tried].into_iter().flatten().for_each(back);
    }

    /// Expects a drill from the first time that breakglass is configured.
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
