//! Verdicts on commits and rollouts, and the proof that a run collects from them. Stages report a
//! [`Judgement`], the gate reports a [`crate::model::gate_report::GateReport`], and the fleet keeps
//! the evidence for each link of the [`Proof`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::id::Sha;
use crate::model::stage::ProofLink;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// The judgement on a commit by a stage. `Unknown` is neither green nor red.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one positive signal, and no negative one.
    Green,
    /// At least one negative signal.
    Red,
    /// The stage has not ended.
    Pending,
    /// The result can't be determined: a time limit, a command that can't run, a lost answer.
    Unknown,
    /// No check appeared before the deadline.
    NoCi,
    /// The stage began and never ended, or it waits for an approval.
    Stuck,
    /// The branch no longer contains the commit.
    Lost,
    /// The cluster never received the commit's image.
    NotApplied,
}

impl Verdict {
    /// The verdict's name, shown beside its mark.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::NoCi => "no CI",
            Self::Stuck => "stuck",
            Self::Lost => "lost",
            Self::NotApplied => "not applied",
        }
    }
}

/// The report of a stage after the push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict of the stage.
    pub verdict: Verdict,
    /// The verdict's reason in one line.
    pub detail: Untrusted,
    /// The last lines of the failing log; empty without a failure.
    pub log: Untrusted,
    /// The facts that the verdict rests on.
    pub facts: Vec<Fact>,
}

impl Judgement {
    /// A judgement without a log or facts.
    #[must_use]
    pub fn new(verdict: Verdict, detail: impl Into<Untrusted>) -> Self {
        Self { verdict, detail: detail.into(), log: Untrusted::default(), facts: Vec::new() }
    }
}

/// The subject of a [`Fact`]. Serialized as one string: `run`, `image`, …, or the annotation's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FactKind {
    /// A CI run or a pipeline, with its result.
    CiRun,
    /// A container's image as the rollout names it.
    Image,
    /// The digest of an image as the nodes report it.
    Digest,
    /// The generation of a rolled-out workload.
    Rollout,
    /// The number of good probes over the soak time.
    Probes,
    /// A test that fails without the change and passes with it.
    FailToPass,
    /// The number of tests that passed before and still pass.
    PassToPass,
    /// A test that passed and failed on one commit.
    Flaky,
    /// A part of the change that no test needs.
    NotNeeded,
    /// A reservation: the proof rests on exit codes alone, or a human approved it.
    Reservation,
    /// How long each run of the test command took.
    Duration,
    /// The sandbox in which the tests ran.
    Sandbox,
    /// A Kubernetes annotation of the workload, by its key.
    Annotation(String),
}

impl FactKind {
    const NAMED: [(&'static str, Self); 12] = [
        ("run", Self::CiRun),
        ("image", Self::Image),
        ("digest", Self::Digest),
        ("rollout", Self::Rollout),
        ("probes", Self::Probes),
        ("fail to pass", Self::FailToPass),
        ("pass to pass", Self::PassToPass),
        ("flaky", Self::Flaky),
        ("not needed", Self::NotNeeded),
        ("reservation", Self::Reservation),
        ("duration", Self::Duration),
        ("sandbox", Self::Sandbox),
    ];

    /// The name that records, the API and the screen show.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Annotation(key) => key,
            kind => {
                Self::NAMED.iter().find(|(_, named)| named == kind).map_or("", |(name, _)| name)
            }
        }
    }
}

impl From<String> for FactKind {
    fn from(name: String) -> Self {
        let named = Self::NAMED.into_iter().find(|(known, _)| *known == name);
        named.map_or_else(|| Self::Annotation(name), |(_, kind)| kind)
    }
}

impl From<FactKind> for String {
    fn from(kind: FactKind) -> Self {
        kind.as_str().to_owned()
    }
}

/// An observation that a verdict rests on: a CI run, an image with its digest, a rollout's
/// generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The subject of the observation.
    #[serde(rename = "name")]
    pub kind: FactKind,
    /// The observed value, in one line.
    pub value: Untrusted,
    /// The address at which a person can check it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Untrusted>,
}

impl Fact {
    /// A fact without a link.
    #[must_use]
    pub fn new(kind: FactKind, value: impl Into<Untrusted>) -> Self {
        Self { kind, value: value.into(), link: None }
    }
}

/// The evidence for one link of the proof chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The verdict at that time.
    pub verdict: Verdict,
    /// The commit that was judged.
    pub sha: Sha,
    /// The time of the verdict.
    pub at: Timestamp,
    /// The reason in one line: the command, its exit code, a count of probes.
    pub detail: Untrusted,
    /// The facts that the verdict rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
}

impl Evidence {
    /// The evidence for the image link, taken from that for the rollout: the facts about images.
    /// None where the rollout names no image.
    #[must_use]
    pub fn image(&self) -> Option<Self> {
        let about = |fact: &&Fact| matches!(fact.kind, FactKind::Image | FactKind::Digest);
        let facts: Vec<Fact> = self.facts.iter().filter(about).cloned().collect();
        let images = facts.iter().filter(|fact| fact.kind == FactKind::Image);
        let names: Vec<String> = images.map(|fact| fact.value.clean_line()).collect();
        let verdict = match (self.verdict, facts.is_empty()) {
            (_, true) => return None,
            (Verdict::NotApplied, _) => Verdict::NotApplied,
            _ => Verdict::Green,
        };
        Some(Self { verdict, detail: names.join(", ").into(), facts, ..self.clone() })
    }
}

/// The proof chain of a run: the evidence for each link so far. Serialized as an object with every
/// link, `null` where there is no evidence yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof(BTreeMap<ProofLink, Evidence>);

impl Proof {
    /// The evidence for one link, where there is some.
    #[must_use]
    pub fn get(&self, link: ProofLink) -> Option<&Evidence> {
        self.0.get(&link)
    }

    /// Every link in order with its evidence, as the deploy pane draws the chain.
    pub fn chain(&self) -> impl Iterator<Item = (ProofLink, Option<&Evidence>)> {
        ProofLink::ALL.into_iter().map(|link| (link, self.get(link)))
    }

    pub(crate) fn set(&mut self, link: ProofLink, evidence: Option<Evidence>) {
        match evidence {
            Some(evidence) => self.0.insert(link, evidence),
            None => self.0.remove(&link),
        };
    }

    /// Applies `back` to the time of every evidence, because the clock was set back.
    pub(crate) fn set_back(&mut self, back: &dyn Fn(&mut Timestamp)) {
        self.0.values_mut().for_each(|evidence| back(&mut evidence.at));
    }

    /// Drops the evidence for all later links, because it concerns another commit.
    pub(crate) fn forget_after(&mut self, link: ProofLink) {
        self.0.retain(|known, _| *known <= link);
    }
}

impl Serialize for Proof {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.chain())
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let links = BTreeMap::<ProofLink, Option<Evidence>>::deserialize(from)?;
        Ok(Self(links.into_iter().filter_map(|(link, seen)| Some((link, seen?))).collect()))
    }
}

/// One result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSample {
    /// The time of the request.
    pub at: Timestamp,
    /// Whether it succeeded: HTTP status 2xx, or exit code 0.
    pub ok: bool,
    /// How long the answer took, in milliseconds.
    pub latency_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fact_kinds_keep_their_recorded_names() {
        for name in
            ["run", "image", "digest", "rollout", "probes", "fail to pass", "keel.sh/policy"]
        {
            assert_eq!(FactKind::from(name.to_owned()).as_str(), name);
        }
        assert_eq!(FactKind::from("image".to_owned()), FactKind::Image);
    }
}
