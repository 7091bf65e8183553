//! Completion of command lines in a shell: subcommands and flags by clap, and the ids of questions and runs
//! from the journal, each with its subject.
//!
//! The shell asks this program for each completion (`AFK_COMPLETE`), so that the ids are those of now.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap_complete::engine::CompletionCandidate;

use super::instance::InstanceArgs;
use crate::core::fleet::Fleet;
use crate::core::model::run::Run;

/// Runs that are offered at most, the newest first.
const RUNS: usize = 50;
/// The most characters of a title.
const TITLE: usize = 60;

/// The fleet of the instance that the line to complete names; none where there is no journal.
fn fleet() -> Option<Fleet> {
    let words: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let after = words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
        let joined = words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        after.map(String::as_str).or(joined).map(PathBuf::from)
    };
    InstanceArgs::of(value("--config"), value("--state")).fleet().ok()
}

fn candidate(id: &impl ToString, about: &str) -> CompletionCandidate {
    let about: String = about.chars().take(TITLE).collect();
    CompletionCandidate::new(id.to_string()).help(Some(about.into()))
}

fn of_run(run: &Run) -> CompletionCandidate {
    let of = run.work.issue().map_or_else(|| run.work.repo().to_string(), ToString::to_string);
    candidate(&run.id, &format!("{of} {}", run.work.title().clean_line()))
}

/// The open questions of a fleet.
fn questions_of(fleet: &Fleet) -> Vec<CompletionCandidate> {
    let line = |known: &crate::core::model::approval::Escalation| {
        let about =
            format!("{} {} {}", known.kind.as_str(), known.subject(), known.title.clean_line());
        candidate(&known.id, &about)
    };
    fleet.inbox().into_iter().map(|known| line(known)).collect()
}

/// The runs of a fleet: those that go on, then those that ended last.
fn runs_of(fleet: &Fleet) -> Vec<CompletionCandidate> {
    let mut runs: Vec<&Run> = fleet.runs.values().map(AsRef::as_ref).collect();
    runs.sort_by_key(|run| (!run.live(), std::cmp::Reverse(run.id)));
    runs.into_iter().take(RUNS).map(of_run).collect()
}

fn starting_with(current: &OsStr, all: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    all.into_iter()
        .filter(|known| known.get_value().to_string_lossy().starts_with(current.as_ref()))
        .collect()
}

/// Completes the id of an open question.
pub(super) fn question(current: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(current, fleet().map(|fleet| questions_of(&fleet)).unwrap_or_default())
}

/// Completes the id of a run.
pub(super) fn run(current: &OsStr) -> Vec<CompletionCandidate> {
    starting_with(current, fleet().map(|fleet| runs_of(&fleet)).unwrap_or_default())
}

/// Completes the id of an open question, of a run, or an issue's key.
pub(super) fn subject(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(fleet) = fleet() else { return Vec::new() };
    let mut all = questions_of(&fleet);
    all.extend(runs_of(&fleet));
    let issues = fleet.issues.values().filter(|issue| issue.open).take(RUNS);
    all.extend(issues.map(|issue| candidate(&issue.key, &issue.title.clean_line())));
    starting_with(current, all)
}
