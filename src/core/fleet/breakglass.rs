//! The state of breakglass: who is armed, what is under way at the host, and what came of it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::breakglass::{
    BreakglassArming, BreakglassEvent, BreakglassRules, Capture, OpenShell, Recording, ShellId,
    Verb, VerbEnd, VerbId, VerbResult, VerbRun, WINDOW,
};
use crate::model::digest::Digest;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::untrusted::Untrusted;

/// How many ended verbs stay listed.
const PAST_VERBS: usize = 50;
/// How many captures and recordings stay listed; their files are kept by their age.
const LISTED_FILES: usize = 200;
/// The time between two tries of a drill that fails, in milliseconds.
const DRILL_RETRY: i64 = 60 * MINUTE;

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
pub struct BreakglassState {
    /// Who may use it.
    pub armed: Option<BreakglassArming>,
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
    pub shells: BTreeMap<ShellId, OpenShell>,
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

impl BreakglassState {
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
            verb.as_str().as_bytes(),
            vm.as_bytes(),
            armed.unwrap_or_default().as_bytes(),
            reads.unwrap_or_default().as_bytes(),
            &last.unwrap_or_default().to_be_bytes(),
        ])
    }

    /// Since when the drill is an alarm; none while it is not.
    #[must_use]
    pub fn drill_red(&self, at: Timestamp, rules: &BreakglassRules) -> Option<Timestamp> {
        rules.drill_ms?;
        let red = self.drill.good.or(self.drill.since)?.plus(rules.drill_red_ms);
        (red <= at).then_some(red)
    }

    /// The earliest time at which it changes by itself.
    #[must_use]
    pub fn next_deadline(&self, rules: Option<&BreakglassRules>) -> Option<Timestamp> {
        let expiry = self.armed.as_ref().map(|arming| arming.until);
        let drill = rules.and_then(|rules| self.next_drill(rules));
        expiry.into_iter().chain(drill).min()
    }

    /// When the drill is to be looked at the next time.
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

    /// The number of the next verb.
    pub(crate) const fn next_verb(&self) -> VerbId {
        VerbId(self.next_verb + 1)
    }

    /// The number of the next shell.
    pub(crate) const fn next_shell(&self) -> ShellId {
        ShellId(self.next_shell + 1)
    }

    /// Changes it by what happened; total.
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
            BreakglassEvent::Ended { verb, end } => self.ended(at, *verb, end),
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
            push(&mut self.captures, (run.id, at, capture.clone()), LISTED_FILES);
        }
        if self.drill.verb == Some(verb) {
            self.drill.verb = None;
        }
        run.end = Some((at, end.clone()));
        push(&mut self.past, run, PAST_VERBS);
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
