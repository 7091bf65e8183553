//! The agents that can take a run's turns: the first one, which the configuration gives to the run, and
//! its fallbacks. [`crate::step`] chooses among them before each turn, and screens say who works in whose
//! place.

use crate::model::activity::Activity;
use crate::model::job::{Job, SavedConversation};
use crate::model::run::{Run, RunAgent};

impl Run {
    /// Continues a caller's session with the agent whose conversation it is, unless the caller chose
    /// another one now.
    pub(crate) fn resume_session(&mut self, job: &Job, known: &SavedConversation) {
        let first = known.preferred.as_ref().map(|first| &first.agent);
        if known.instead.is_some() && job.agent.is_some() && job.agent.as_ref() != first {
            return;
        }
        self.agent.session = Some(known.session.clone());
        self.spend.session = known.cost;
        self.agent.instead.clone_from(&known.instead);
        self.agent.preferred.clone_from(&known.preferred);
    }

    /// Whether it waits for a permit to take in the commits of a job whose time is over: that needs no
    /// agent, although an outage of one held it.
    pub(crate) fn collects_without_agent(&self) -> bool {
        matches!(&self.progress.activity, Activity::Held { cause, then, .. }
            if cause.kind.is_of_agent() && **then == Activity::Collect)
    }
}

impl RunAgent {
    /// The agent of the next turn, as far as the run knows it.
    pub(crate) fn present(&self) -> Option<&str> {
        let known = || self.equipment.as_ref().map(|equipment| equipment.agent.as_str());
        self.instead.as_deref().or_else(known)
    }

    /// The agents that can take the run's turns, the first one first.
    pub(crate) fn candidates(&self) -> Vec<&str> {
        let first = self.preferred.as_ref();
        let first = first.map(|first| (first.agent.as_str(), first.fallback.as_slice()));
        let known = self.equipment.as_ref();
        let known = known.map(|known| (known.agent.as_str(), known.fallback.as_slice()));
        let mut all: Vec<&str> = Vec::new();
        for (agent, fallback) in first.into_iter().chain(known) {
            for name in std::iter::once(agent).chain(fallback.iter().map(String::as_str)) {
                if !all.contains(&name) {
                    all.push(name);
                }
            }
        }
        all
    }

    /// The first agent and the one that works in its place; none while the first one works itself.
    #[must_use]
    pub fn in_place(&self) -> Option<(&str, &str)> {
        Some((self.preferred.as_ref()?.agent.as_str(), self.instead.as_deref()?))
    }

    /// Remarks on how the run's agent works, for a person: that another one works in its place, that
    /// settings let it act without asking, and that it did so.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some((first, instead)) = self.in_place() {
            let cause = self.preferred.as_ref().and_then(|first| first.cause.as_ref());
            let cause = cause.map(|cause| format!(": {}", cause.summary()));
            remarks
                .push(format!("{instead} works in place of {first}{}", cause.unwrap_or_default()));
        }
        if let Some(equipment) = &self.equipment
            && !equipment.unasked.is_empty()
        {
            let (files, agent) = (equipment.unasked.join(", "), &equipment.agent);
            remarks.push(format!(
                "{files} of the repository can let {agent} act without asking; the wall holds"
            ));
        }
        if let Some(unasked) = &self.unasked {
            let latest = unasked.latest.clean_line();
            remarks.push(format!("its agent {}, the latest: {latest}", unasked.summary()));
        }
        remarks
    }
}
