//! The stages that a run passes after its push, as one table: the stage's name, the phase that it
//! puts the run in, what the run is doing meanwhile, and the proof link that its verdict fills.
//!
//! The lifecycle, the screen, the progress comment and the runtime read this table, so a new stage
//! is a row here, its key in `.afk.toml` and its task in the runtime
//! (docs/contributing.md, "How to add a stage").

use serde::{Deserialize, Serialize};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The run is claimed and waits for a permit.
    Queued,
    /// The run has or gets its worktree, and the agent works in it.
    Worktree,
    /// The runtime saw the new tests fail on the base commit.
    TestsRed,
    /// The runtime saw the new tests pass on the head.
    TestsGreen,
    /// The remote was read back and has the head.
    Pushed,
    /// The repository's CI decides.
    Ci,
    /// The deploy or its probes decide.
    Deploying,
    /// Every stage was seen healthy.
    Healthy,
}

impl Phase {
    /// Every phase in order.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Worktree,
        Self::TestsRed,
        Self::TestsGreen,
        Self::Pushed,
        Self::Ci,
        Self::Deploying,
        Self::Healthy,
    ];

    /// The phase's name on the screen, in records and in comments.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Worktree => "worktree",
            Self::TestsRed => "tests-red",
            Self::TestsGreen => "tests-green",
            Self::Pushed => "pushed",
            Self::Ci => "ci",
            Self::Deploying => "deploying",
            Self::Healthy => "healthy",
        }
    }

    /// The proof link that shows why a run is past this phase; none before the gate.
    #[must_use]
    pub const fn proof_link(self) -> Option<ProofLink> {
        Some(match self {
            Self::Queued | Self::Worktree => return None,
            Self::TestsRed => ProofLink::TestsRed,
            Self::TestsGreen => ProofLink::TestsGreen,
            Self::Pushed => ProofLink::Commit,
            Self::Ci => ProofLink::Ci,
            Self::Deploying => ProofLink::Rollout,
            Self::Healthy => ProofLink::Probe,
        })
    }
}

/// One link of the proof chain: commit → CI run → image → rollout → probes, after the two sides of
/// the gate. The serialized names are part of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProofLink {
    /// The new tests fail on the base commit.
    #[serde(rename = "tests_red")]
    TestsRed,
    /// The new tests pass on the head.
    #[serde(rename = "tests_green")]
    TestsGreen,
    /// The remote was read back and has the commit.
    #[serde(rename = "pushed")]
    Commit,
    /// The CI of the repository.
    #[serde(rename = "ci")]
    Ci,
    /// The commit's image as the cluster has it.
    #[serde(rename = "image")]
    Image,
    /// The deploy command and the rollout.
    #[serde(rename = "deploy")]
    Rollout,
    /// The probes over the soak time.
    #[serde(rename = "probes")]
    Probe,
}

impl ProofLink {
    /// Every link in the order of the chain.
    pub const ALL: [Self; 7] = [
        Self::TestsRed,
        Self::TestsGreen,
        Self::Commit,
        Self::Ci,
        Self::Image,
        Self::Rollout,
        Self::Probe,
    ];

    /// The link's name on the screen.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TestsRed => "red",
            Self::TestsGreen => "green",
            Self::Commit => "commit",
            Self::Ci => "ci",
            Self::Image => "image",
            Self::Rollout => "rollout",
            Self::Probe => "probe",
        }
    }

    /// The link's name in a sentence with a verdict, where "red: green" would contradict itself:
    /// the two sides of the gate have the names of their phases.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TestsRed => Phase::TestsRed.as_str(),
            Self::TestsGreen => Phase::TestsGreen.as_str(),
            link => link.as_str(),
        }
    }

    /// The link's name in the strip of a proof chain, beside a mark: the tests fail before the change and
    /// pass after it. The second is for little room.
    #[must_use]
    pub const fn strip_names(self) -> (&'static str, &'static str) {
        match self {
            Self::TestsRed => ("fails before", "before"),
            Self::TestsGreen => ("passes after", "after"),
            link => (link.as_str(), link.as_str()),
        }
    }

    /// The stage whose verdict fills this link, where one does.
    #[must_use]
    pub fn stage(self) -> Option<Stage> {
        STAGES.iter().find(|row| row.proof == self).map(|row| row.stage)
    }
}

/// A stage after the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The CI of the repository.
    Ci,
    /// The deploy command, the pipeline or the rollout.
    Deploy,
    /// The probes over the soak time.
    Probe,
}

/// One row of the stage table.
#[derive(Debug)]
struct StageRow {
    stage: Stage,
    name: &'static str,
    phase: Phase,
    doing: &'static str,
    proof: ProofLink,
}

/// The table, in the order in which a run passes its stages.
const STAGES: [StageRow; 3] = [
    StageRow {
        stage: Stage::Ci,
        name: "CI",
        phase: Phase::Ci,
        doing: "waiting for CI",
        proof: ProofLink::Ci,
    },
    StageRow {
        stage: Stage::Deploy,
        name: "deploy",
        phase: Phase::Deploying,
        doing: "deploying",
        proof: ProofLink::Rollout,
    },
    StageRow {
        stage: Stage::Probe,
        name: "probe",
        phase: Phase::Deploying,
        doing: "probing",
        proof: ProofLink::Probe,
    },
];

impl Stage {
    /// Every stage in the order in which a run passes them.
    pub fn all() -> impl Iterator<Item = Self> {
        STAGES.iter().map(|row| row.stage)
    }

    const fn row(self) -> &'static StageRow {
        &STAGES[self as usize]
    }

    /// The stage's name in sentences, records and prompts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The phase of a run that is in this stage.
    #[must_use]
    pub const fn phase(self) -> Phase {
        self.row().phase
    }

    /// What a run in this stage is doing, for its row on the screen.
    #[must_use]
    pub const fn doing(self) -> &'static str {
        self.row().doing
    }

    /// The proof link that this stage's verdict fills.
    #[must_use]
    pub const fn proof_link(self) -> ProofLink {
        self.row().proof
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Serializes a stage by its name in sentences, as records hold it.
pub(crate) mod by_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Stage;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(stage: &Stage, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(stage.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Stage, D::Error> {
        let name = String::deserialize(from)?;
        let stage = Stage::all().find(|stage| stage.as_str() == name);
        stage.ok_or_else(|| serde::de::Error::custom(format!("{name:?} names no stage")))
    }
}

/// The stages that a repository's `.afk.toml` asks for, read from the base commit. Serialized as an
/// object with a boolean a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "std::collections::BTreeMap<Stage, bool>")]
#[serde(into = "std::collections::BTreeMap<Stage, bool>")]
pub struct Stages(u8);

impl Stages {
    /// Every stage, as for a repository that asks for all of them.
    #[must_use]
    pub fn all() -> Self {
        Stage::all().collect()
    }

    /// Whether the repository has `stage`.
    #[must_use]
    pub const fn has(self, stage: Stage) -> bool {
        self.0 & stage.bit() != 0
    }

    /// The first stage that the repository has after `stage`, or of all where there is none.
    #[must_use]
    pub fn after(self, stage: Option<Stage>) -> Option<Stage> {
        Stage::all().find(|next| stage.is_none_or(|stage| *next > stage) && self.has(*next))
    }
}

impl FromIterator<Stage> for Stages {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        Self(stages.into_iter().fold(0, |bits, stage| bits | stage.bit()))
    }
}

impl From<std::collections::BTreeMap<Stage, bool>> for Stages {
    fn from(stages: std::collections::BTreeMap<Stage, bool>) -> Self {
        stages.into_iter().filter_map(|(stage, has)| has.then_some(stage)).collect()
    }
}

impl From<Stages> for std::collections::BTreeMap<Stage, bool> {
    fn from(stages: Stages) -> Self {
        Stage::all().map(|stage| (stage, stages.has(stage))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_lists_each_stage_once_and_in_order() {
        let stages: Vec<Stage> = Stage::all().collect();
        assert!(stages.is_sorted());
        for (index, stage) in stages.iter().enumerate() {
            assert_eq!((*stage as usize, stage.row().stage), (index, *stage));
        }
    }

    #[test]
    fn next_stage_is_the_first_that_the_repository_has() {
        let some: Stages = [Stage::Ci, Stage::Probe].into_iter().collect();
        assert_eq!(some.after(None), Some(Stage::Ci));
        assert_eq!(some.after(Some(Stage::Ci)), Some(Stage::Probe));
        assert_eq!(some.after(Some(Stage::Probe)), None);
        assert_eq!(Stages::default().after(None), None);
    }
}
