//! Verdicts on commits and rollouts, and the proof that a run collects from them. Stages report a
//! [`Judgement`], the gate reports a [`GateReport`], and the fleet keeps the evidence for each link
//! of the [`Proof`].

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
    /// A Kubernetes annotation of the workload, by its key.
    Annotation(String),
}

impl FactKind {
    const NAMED: [(&'static str, Self); 5] = [
        ("run", Self::CiRun),
        ("image", Self::Image),
        ("digest", Self::Digest),
        ("rollout", Self::Rollout),
        ("probes", Self::Probes),
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

/// The observations of the red-first gate, each side on a clean checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReport {
    /// The commit that the run began from.
    pub base: Sha,
    /// The commit that is to be pushed; all fields but `base` and `on_base` concern it.
    pub head: Sha,
    /// The run's new or changed test files.
    pub tests: Vec<Untrusted>,
    /// The result on the base, with those test files laid over it.
    pub on_base: GateSide,
    /// The result on the head.
    pub on_head: GateSide,
}

/// The result of the test command on one side of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum GateSide {
    /// The test command exited with 0.
    Passed,
    /// The test command exited with another code.
    Failed {
        /// The exit code of the command.
        code: i32,
        /// The last lines of its output.
        log: Untrusted,
    },
    /// Every changed file is exempt in `.afk.toml` (documentation, configuration), so that no test
    /// has to fail.
    Exempt,
    /// A changed file is not exempt, and no test file changed.
    NoTests,
    /// A commit message makes CI skip the commit.
    CiSkipped,
    /// The branch has no commit and no changed file.
    NoChange,
    /// The workspace or its commits can't be proven as they are, and the agent can change that.
    Unfit {
        /// The state, with the paths, and what the agent can do.
        why: Untrusted,
    },
    /// The commits hold something that must not be pushed: a secret, a huge file, a link out of the
    /// repository.
    Leaks {
        /// Each place in one line: the commit, the path, the line and the kind; never the value.
        places: Vec<Untrusted>,
    },
    /// The test command could not run, or exceeded its time limit.
    Broken {
        /// The cause, and how to fix it.
        why: Untrusted,
    },
    /// The command did not run, because the other side already decided.
    NotRun,
}

/// The gate's decision on a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateVerdict {
    /// The head may be pushed.
    Open,
    /// The agent gets another turn with this explanation.
    Closed(Untrusted),
    /// The test command itself can't run, which no agent can fix, so afk asks a human.
    Broken(Untrusted),
}

impl GateReport {
    /// Opens the gate only for tests that fail on the base and pass on the head, or for exempt
    /// changes whose tests pass.
    #[must_use]
    pub(crate) fn verdict(&self) -> GateVerdict {
        use GateSide::{
            Broken, CiSkipped, Exempt, Failed, Leaks, NoChange, NoTests, NotRun, Passed, Unfit,
        };
        let closed = |text: String| GateVerdict::Closed(Untrusted::new(text));
        match (&self.on_base, &self.on_head) {
            (Failed { .. } | Exempt, Passed) => GateVerdict::Open,
            (Broken { why }, _) | (_, Broken { why }) => GateVerdict::Broken(why.clone()),
            (Unfit { why }, _) | (_, Unfit { why }) => GateVerdict::Closed(why.clone()),
            (NoChange, _) | (_, NoChange) => {
                closed("There is no change to push: no commit was made and no file differs.".into())
            }
            (CiSkipped, _) | (_, CiSkipped) => closed(
                "A commit message makes CI skip the commit, which is never allowed. Reword your \
                 commits."
                    .into(),
            ),
            (Leaks { places }, _) | (_, Leaks { places }) => closed(leaks(places, &self.base)),
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
                "The test command exits with {code} on your commit. The end of its output:\n{}",
                log.as_received()
            )),
            (_, Exempt | NotRun) => closed("The tests were not run on your commit.".into()),
        }
    }
}

impl GateReport {
    /// The places that must not be pushed, where the gate found some.
    #[must_use]
    pub(crate) fn leaks(&self) -> &[Untrusted] {
        match &self.on_base {
            GateSide::Leaks { places } => places,
            _ => &[],
        }
    }

    /// Applies `change` to every text that came from outside.
    pub(crate) fn texts(&mut self, change: &mut dyn FnMut(&mut Untrusted)) {
        self.tests.iter_mut().for_each(&mut *change);
        for side in [&mut self.on_base, &mut self.on_head] {
            match side {
                GateSide::Failed { log: text, .. }
                | GateSide::Broken { why: text }
                | GateSide::Unfit { why: text } => change(text),
                GateSide::Leaks { places } => places.iter_mut().for_each(&mut *change),
                GateSide::Passed
                | GateSide::Exempt
                | GateSide::NoTests
                | GateSide::CiSkipped
                | GateSide::NoChange
                | GateSide::NotRun => {}
            }
        }
    }
}

/// The most places that an explanation names.
const NAMED_LEAKS: usize = 20;

/// The explanation for an agent whose commits can't be pushed.
fn leaks(places: &[Untrusted], base: &Sha) -> String {
    let mut text = String::from("Your commits hold what must not be pushed:\n");
    for place in places.iter().take(NAMED_LEAKS) {
        text.push_str(&format!("- {}\n", place.clean_line()));
    }
    if places.len() > NAMED_LEAKS {
        text.push_str(&format!("- and {} more\n", places.len() - NAMED_LEAKS));
    }
    text + &format!(
        "\nEvery commit is pushed, so another commit that deletes it does not help. Rewrite your \
         commits so that none of them holds it: for example `git reset --soft {}`, take it out, \
         and commit again. Delete or ignore files that are no part of the change, because afk \
         commits what is left over. A secret belongs into the environment, never into the \
         repository.",
        base.short()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_close_the_gate_and_are_named() {
        let report = GateReport {
            base: Sha("0123456789abcdef".into()),
            head: Sha("b".into()),
            tests: vec![],
            on_base: GateSide::Leaks { places: vec!["b: .env line 1: a key".into(); 25] },
            on_head: GateSide::NotRun,
        };
        let GateVerdict::Closed(why) = report.verdict() else { panic!("the gate is open") };
        let why = why.as_received();
        assert!(why.contains("- b: .env line 1: a key\n") && why.contains("- and 5 more"), "{why}");
        assert!(why.contains("git reset --soft 01234567"), "{why}");
        assert_eq!(report.leaks().len(), 25);
    }

    #[test]
    fn fact_kinds_keep_their_recorded_names() {
        for name in ["run", "image", "digest", "rollout", "probes", "keel.sh/policy"] {
            assert_eq!(FactKind::from(name.to_owned()).as_str(), name);
        }
        assert_eq!(FactKind::from("image".to_owned()), FactKind::Image);
    }

    #[test]
    fn gate_opens_only_for_red_then_green() {
        let sides = [
            GateSide::Passed,
            GateSide::Failed { code: 1, log: "no".into() },
            GateSide::Exempt,
            GateSide::NoTests,
            GateSide::CiSkipped,
            GateSide::NoChange,
            GateSide::Unfit { why: "a merge".into() },
            GateSide::Leaks { places: vec!["a: b: a key".into()] },
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
