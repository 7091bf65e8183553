//! What the outside says of a commit or a rollout, and the proof that is kept of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::id::Sha;
use crate::model::stage::ProofLink;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Green, red, pending or unknown. Unknown is never green and never red.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one positive signal and no negative one.
    Green,
    /// A negative signal.
    Red,
    /// Not ended.
    Pending,
    /// Nobody can tell: a time limit, a command that can't be run, an answer that was lost.
    Unknown,
    /// No check ever came.
    NoCi,
    /// It began and never ended, or waits for somebody.
    Stuck,
    /// The commit is on the branch no more.
    Lost,
    /// The cluster never took the commit's image.
    NotApplied,
}

impl Verdict {
    /// The word shown beside the mark.
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

/// What a stage after the push said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// In a line.
    pub detail: Untrusted,
    /// The end of the log.
    pub log: Untrusted,
    /// What it rests on.
    pub facts: Vec<Fact>,
}

impl Judgement {
    /// A judgement without a log or facts.
    #[must_use]
    pub fn new(verdict: Verdict, detail: impl Into<Untrusted>) -> Self {
        Self { verdict, detail: detail.into(), log: Untrusted::default(), facts: Vec::new() }
    }
}

/// One thing that a verdict rests on: a CI run, an image with its digest, a rollout's generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is: `run`, `image`, `digest`, `rollout`, `probes`.
    pub name: String,
    /// What was seen.
    pub value: Untrusted,
    /// Where a person can see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Untrusted>,
}

impl Fact {
    /// A fact without a link.
    #[must_use]
    pub fn new(name: &str, value: impl Into<Untrusted>) -> Self {
        Self { name: name.into(), value: value.into(), link: None }
    }
}

/// One link of a proof: what was seen, of which commit, when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was said.
    pub verdict: Verdict,
    /// Of which commit.
    pub sha: Sha,
    /// When it was said.
    pub at: Timestamp,
    /// One line: the command, its exit code, a count of probes.
    pub detail: Untrusted,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
}

impl Evidence {
    /// The link of the image, from that of the rollout: its facts about images.
    #[must_use]
    pub fn image(&self) -> Option<Self> {
        let about = |fact: &&Fact| matches!(fact.name.as_str(), "image" | "digest");
        let facts: Vec<Fact> = self.facts.iter().filter(about).cloned().collect();
        let names: Vec<String> =
            facts.iter().filter(|f| f.name == "image").map(|f| f.value.clean_line()).collect();
        let verdict = match (self.verdict, facts.is_empty()) {
            (_, true) => return None,
            (Verdict::NotApplied, _) => Verdict::NotApplied,
            _ => Verdict::Green,
        };
        Some(Self { verdict, detail: names.join(", ").into(), facts, ..self.clone() })
    }
}

/// The proof chain of a run: what was seen for each link so far. Serialized as an object with every
/// link, `null` where nothing was seen yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof(BTreeMap<ProofLink, Evidence>);

impl Proof {
    /// What was seen for a link.
    #[must_use]
    pub fn get(&self, link: ProofLink) -> Option<&Evidence> {
        self.0.get(&link)
    }

    /// The chain as the deploy pane draws it: every link in order.
    pub fn chain(&self) -> impl Iterator<Item = (ProofLink, Option<&Evidence>)> {
        ProofLink::ALL.into_iter().map(|link| (link, self.get(link)))
    }

    pub(crate) fn set(&mut self, link: ProofLink, evidence: Option<Evidence>) {
        match evidence {
            Some(evidence) => self.0.insert(link, evidence),
            None => self.0.remove(&link),
        };
    }

    /// Forgets what later links showed: they spoke of another commit.
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

/// One answer of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSample {
    /// When.
    pub at: Timestamp,
    /// As configured: status 2xx, or exit code 0.
    pub ok: bool,
    /// How long the answer took, in milliseconds.
    pub latency_ms: u32,
}

/// What the red-first gate saw, each side on a clean checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// The commit that the run began from.
    pub base: Sha,
    /// The commit that is to be pushed; all else is said of this one.
    pub head: Sha,
    /// The run's new or changed test files.
    pub tests: Vec<Untrusted>,
    /// The test command on the base with those files laid over it.
    pub on_base: GateSide,
    /// The test command on the head.
    pub on_head: GateSide,
}

/// One side of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum GateSide {
    /// The test command ended with 0.
    Passed,
    /// It ended with another code, with the end of its output.
    Failed {
        /// The exit code.
        code: i32,
        /// The end of what it printed.
        log: Untrusted,
    },
    /// Every changed file is exempt in `.afk.toml` (docs, configuration): nothing to be red.
    Exempt,
    /// Changed files that aren't exempt, and no test among them.
    NoTests,
    /// A commit's message tells CI to look away.
    CiSkipped,
    /// No commit and no change at all.
    NoChange,
    /// The test command could not be run, or did not end in time.
    Broken {
        /// What happened.
        why: Untrusted,
    },
    /// Not run, because the other side already decided.
    NotRun,
}

/// What the gate says of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateVerdict {
    /// May be pushed.
    Open,
    /// Back to the agent with this explanation.
    Closed(Untrusted),
    /// Neither: the test command itself can't be run, which no agent can mend.
    Broken(Untrusted),
}

impl GateReport {
    /// Tests that fail on the base and pass on the head open the gate; nothing else does.
    #[must_use]
    pub fn verdict(&self) -> GateVerdict {
        use GateSide::{Broken, CiSkipped, Exempt, Failed, NoChange, NoTests, NotRun, Passed};
        let closed = |text: String| GateVerdict::Closed(Untrusted::new(text));
        match (&self.on_base, &self.on_head) {
            (Failed { .. } | Exempt, Passed) => GateVerdict::Open,
            (Broken { why }, _) | (_, Broken { why }) => GateVerdict::Broken(why.clone()),
            (NoChange, _) | (_, NoChange) => {
                closed("There is no change to push: no commit was made and no file differs.".into())
            }
            (CiSkipped, _) | (_, CiSkipped) => closed(
                "A commit's message tells CI to skip it, which is never allowed. Reword your \
                 commits."
                    .into(),
            ),
            (NoTests | NotRun, _) | (_, NoTests) => closed(
                "No test file was added or changed. Write a test that fails without your change, \
                 and commit it."
                    .into(),
            ),
            (Passed, _) => closed(
                "Your new tests already pass on the commit you started from, so they prove \
                 nothing. Write a test that fails there and passes with your change."
                    .into(),
            ),
            (_, Failed { code, log }) => closed(format!(
                "The test command ends with {code} on your commit. The end of its output:\n{}",
                log.as_received()
            )),
            (_, Exempt | NotRun) => closed("The tests were not run on your commit.".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_red_then_green_opens_the_gate() {
        let sides = [
            GateSide::Passed,
            GateSide::Failed { code: 1, log: "no".into() },
            GateSide::Exempt,
            GateSide::NoTests,
            GateSide::CiSkipped,
            GateSide::NoChange,
            GateSide::Broken { why: "no such file".into() },
            GateSide::NotRun,
        ];
        for on_base in &sides {
            for on_head in &sides {
                let report = GateReport {
                    base: Sha("a".into()),
                    head: Sha("b".into()),
                    tests: vec![],
                    on_base: on_base.clone(),
                    on_head: on_head.clone(),
                };
                let open = matches!(on_base, GateSide::Failed { .. } | GateSide::Exempt)
                    && matches!(on_head, GateSide::Passed);
                assert_eq!(report.verdict() == GateVerdict::Open, open, "{on_base:?} {on_head:?}");
            }
        }
    }
}
