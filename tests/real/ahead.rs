//! Chains of fixes in one repository, with commits of somebody else between them: how often a claim
//! waits for its baseline.

use std::path::Path;

use afk::core::model::run::Outcome;

use crate::project::{Fix, LIMIT, Runner, folder};
use crate::support::git;
use crate::support::world::{run_of, until_within, wait_until};

/// Releases of a package in order; the fixes lead from each one to the next.
struct Chain {
    package: &'static str,
    releases: &'static [&'static str],
    paths: &'static [&'static str],
    /// The file that names the release.
    version: &'static str,
    runner: Runner,
}

impl Chain {
    fn fixes(&self) -> Vec<Fix> {
        let pairs = self.releases.windows(2);
        let fix = |pair: &[&'static str]| Fix {
            package: self.package,
            base: pair[0],
            fixed: pair[1],
            paths: self.paths,
            runner: self.runner,
            changes_tests: false,
        };
        pairs.map(fix).collect()
    }

    /// Lands all fixes, one after the other. Before each of them but the first, somebody else pushes,
    /// and afk has the time to look at it. Returns how many claims waited for a baseline.
    async fn waits(&self) -> usize {
        let fixes = self.fixes();
        let takes = fixes.iter().map(|fix| format!("*{}*)\n{}\n;;\n", fix.base, fix.honest()));
        let script = format!(
            "case $(grep -h '^__version__' {}) in\n{}esac",
            self.version,
            takes.collect::<String>()
        );
        let world = fixes[0].world(&script).with("[limits]\nbaseline_seconds = 1");
        let runtime = world.start().await;
        for number in 1..=fixes.len() as u64 {
            if number > 1 {
                let (work, remote) = (world.path("work"), world.remote().display().to_string());
                git(&work, &["pull", "-q", "--rebase", &remote, "master"]);
                std::fs::write(work.join("NOTES"), format!("{number}\n")).unwrap();
                world.commit("Push past afk");
                let pushed = git(&work, &["rev-parse", "HEAD"]);
                let known = || is_stored(&world.state(), pushed.trim());
                wait_until("a baseline of the pushed commit", known).await;
                world.issue(number, "The next fix", "armed_by = 'ana'");
            }
            let run = until_within(&runtime, "the end of a run", LIMIT, |s| {
                run_of(&s.fleet, number).filter(|run| run.progress.outcome.is_some()).cloned()
            });
            let run = run.await;
            let why = run.progress.why.clean();
            assert_eq!(run.progress.outcome, Some(Outcome::Done), "{number}: {why}");
        }
        runtime.stop().await;
        // A stored baseline "is known"; any other line about one tells how its tests ended.
        let waited = |run: &u64| {
            let transcript = world.transcript(*run);
            let mut lines = transcript.lines().filter(|line| line.contains("baseline of "));
            lines.any(|line| !line.contains("is known"))
        };
        (1..=fixes.len() as u64).filter(waited).count()
    }
}

/// Whether a baseline of the commit lies somewhere in the state folder.
fn is_stored(state: &Path, commit: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(state) else { return false };
    let is_baseline = |path: &Path| {
        path.parent().is_some_and(|folder| folder.ends_with("baselines"))
            && std::fs::read_to_string(path).is_ok_and(|text| text.contains(commit))
    };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        let enters = path.is_dir() && !path.join("HEAD").exists();
        if enters { is_stored(&path, commit) } else { is_baseline(&path) }
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real packages: tests/real.sh fetches them and runs this"]
async fn only_the_first_claim_waits_for_its_baseline() {
    let chains = [
        Chain {
            package: "parse",
            releases: &["1.20.0", "1.20.1", "1.20.2", "1.21.0"],
            paths: &["parse.py", "tests"],
            version: "parse.py",
            runner: Runner::Pytest,
        },
        Chain {
            package: "cachetools",
            releases: &["5.3.3", "5.4.0", "5.5.0"],
            paths: &["src", "tests"],
            version: "src/cachetools/__init__.py",
            runner: Runner::PytestSrc,
        },
    ];
    let mut claims = 0;
    let mut waited = 0;
    for chain in &chains {
        if !chain.fixes().iter().all(Fix::is_here) {
            return;
        }
        claims += chain.fixes().len();
        waited += chain.waits().await;
    }
    let line = format!("Of {claims} claims in chains of fixes, {waited} waited for a baseline.\n");
    std::fs::write(folder().join("waits"), line).unwrap();
    assert_eq!(waited, chains.len(), "the first claim of a chain waits, and no other one");
}
