//! A repository that holds an older release of a real package, and an agent that applies what a newer
//! release changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use afk::core::model::approval::EscalationKind;
use afk::core::model::run::{Outcome, Run};
use afk::core::model::stage::ProofLink;

use crate::support::world::{END, World, ended_within};

/// The longest wait for a run. A gate compiles a Rust project up to twelve times.
pub const LIMIT: Duration = Duration::from_secs(280);

/// The folder into which `tests/real.sh` fetched the packages.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var("AFK_REAL").expect("tests/real.sh sets AFK_REAL"))
}

/// The program that runs a project's tests.
#[derive(Debug, Clone, Copy)]
pub enum Runner {
    Pytest,
    /// pytest, where the package lies in `src`.
    PytestSrc,
    /// unittest, where the package lies in `src`.
    UnittestSrc,
    Tape,
    NodeTest,
    CargoTest,
    /// Programs with the framework Unity, whose names afk doesn't read.
    Unity,
}

impl Runner {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pytest | Self::PytestSrc => "pytest",
            Self::UnittestSrc => "unittest",
            Self::Tape => "tape",
            Self::NodeTest => "node --test",
            Self::CargoTest => "cargo test",
            Self::Unity => "cc, by exit code",
        }
    }

    /// The test command. Its programs lie in the tier's folder, which the sandbox may read.
    pub fn command(self) -> String {
        let folder = folder().display().to_string();
        let python = format!("{folder}/venv/bin/python -B");
        let modules = format!("{folder}/node/node_modules");
        match self {
            Self::Pytest => format!("{python} -m pytest -rA -p no:cacheprovider tests"),
            Self::PytestSrc => {
                format!("PYTHONPATH=src {python} -m pytest -rA -p no:cacheprovider tests")
            }
            Self::UnittestSrc => format!("PYTHONPATH=src {python} -m unittest -v"),
            Self::Tape => format!("NODE_PATH={modules} {modules}/.bin/tape 'test/*.js'"),
            Self::NodeTest => "node --test test/".into(),
            Self::CargoTest => "cargo test --offline".into(),
            Self::Unity => "for t in misc_tests parse_number parse_value print_value; do \
                 cc -w -Itests/unity/src -Itests/unity/examples tests/$t.c tests/unity/src/unity.c -lm -o check && \
                 (cd tests && ../check) || exit 1; done"
                .into(),
        }
    }
}

/// A fix: what a newer release changed at some paths of an older one.
#[derive(Debug, Clone, Copy)]
pub struct Fix {
    pub package: &'static str,
    pub base: &'static str,
    pub fixed: &'static str,
    /// The files and folders that the agent takes from the newer release.
    pub paths: &'static [&'static str],
    pub runner: Runner,
    /// Whether the issue has the label `tests-change`, since the fix changes what old tests assert.
    pub changes_tests: bool,
}

impl Fix {
    fn release(&self, version: &str) -> PathBuf {
        folder().join("packages").join(format!("{}-{version}", self.package))
    }

    /// Whether both releases were fetched; prints what is missing.
    pub fn is_here(&self) -> bool {
        let missing = [self.base, self.fixed].map(|version| self.release(version));
        let missing = missing.iter().find(|release| !release.exists());
        if let Some(release) = missing {
            eprintln!("SKIPPED: {} was not fetched", release.display());
        }
        missing.is_none()
    }

    /// Shell: takes some paths from the newer release.
    pub fn take(&self, paths: &[&str]) -> String {
        let release = self.release(self.fixed);
        let take = |path: &&str| {
            format!("rm -rf '{path}'; cp -R '{}' '{path}'\n", release.join(path).display())
        };
        paths.iter().map(take).collect()
    }

    /// Shell: commits the whole fix.
    pub fn honest(&self) -> String {
        format!("{}{COMMIT}", self.take(self.paths))
    }

    /// A world with the older release, whose agent runs `script` and ends its turn.
    pub fn world(&self, script: &str) -> World {
        self.world_with_test(script, &self.runner.command())
    }

    /// Like `world`, with another test command.
    pub fn world_with_test(&self, script: &str, test: &str) -> World {
        let world = World::new(&format!("{script}\n{END}")).walled().readable(&folder());
        let work = world.path("work");
        std::fs::remove_dir_all(work.join("tests")).unwrap();
        copy(&self.release(self.base), &work);
        std::fs::write(work.join(".afk.toml"), format!("test = '''{test}'''\n")).unwrap();
        world.commit("Older release");
        if self.changes_tests {
            let issue = world.path("issues/1.md");
            let text = std::fs::read_to_string(&issue).unwrap();
            let labels = "labels = ['ready-for-agent', 'tests-change']";
            std::fs::write(issue, text.replace("labels = ['ready-for-agent']", labels)).unwrap();
        }
        world
    }
}

/// Shell: commits everything in the work tree, unless a former turn did.
pub const COMMIT: &str = "git add --all . && git $US commit -qm 'Fix it' || true";

fn copy(from: &Path, to: &Path) {
    let all = from.join(".");
    assert!(Command::new("cp").arg("-R").args([&all, to]).status().unwrap().success());
}

/// How a run ended.
pub struct Ended {
    pub run: Run,
    /// The kind and text of the escalation that it left behind.
    pub asked: Option<(EscalationKind, String)>,
    pub transcript: String,
}

impl Ended {
    /// Asserts that the run ended with a human's turn.
    pub fn needs_human(&self) {
        let why = self.run.progress.why.clean();
        assert_eq!(self.run.progress.outcome, Some(Outcome::NeedsHuman), "{why}");
    }

    /// Asserts that the agent read these words, and that no approval can be given.
    pub fn is_closed_with(&self, words: &str) {
        self.needs_human();
        assert!(self.transcript.contains(words), "{}", self.transcript);
        let kind = self.asked.as_ref().map(|(kind, _)| *kind);
        assert_ne!(kind, Some(EscalationKind::Approval), "{:?}", self.asked);
    }

    /// Asserts that a human is asked for an approval and reads these words.
    pub fn asks_for_approval_with(&self, words: &[&str]) {
        self.needs_human();
        let (kind, detail) = self.asked.as_ref().unwrap();
        assert_eq!(*kind, EscalationKind::Approval, "{detail}\n{}", self.transcript);
        for words in words {
            assert!(detail.contains(words), "{words:?} is missing: {detail}");
        }
    }
}

/// Runs the world's issue to its end.
pub async fn end_of(world: &World) -> Ended {
    let runtime = world.start().await;
    let run = ended_within(&runtime, LIMIT).await;
    let fleet = runtime.handle.snapshots.borrow().fleet.clone();
    let asked = fleet.inbox().first().map(|asked| (asked.kind, asked.detail.clean()));
    runtime.stop().await;
    let transcript = world.transcript(run.id.0);
    Ended { run, asked, transcript }
}

/// The values of the facts of one kind in a run's proof.
pub fn facts(run: &Run, kind: &str) -> Vec<String> {
    let links = [ProofLink::TestsRed, ProofLink::TestsGreen];
    let facts = links.into_iter().filter_map(|link| run.proof.get(link));
    let facts = facts.flat_map(|evidence| evidence.facts.clone());
    facts.filter(|fact| fact.kind.as_str() == kind).map(|fact| fact.value.clean_line()).collect()
}
