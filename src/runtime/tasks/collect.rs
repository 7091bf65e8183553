//! Takes the commits of a job in before its clone goes away, and pushes them where `[service] push`
//! says so: no job is `completed` while its commits are nowhere.
//!
//! ```text
//! clone: its branches, and the agent's own pushes ──▶ import ──▶ refs/afk/kept/<run>
//!                                                       └─ push ──▶ fitness, leaks ──▶ push, read back
//!                                                             ▲                          │
//!                                                             └────────── rebase ◀───────┘ the remote has moved on
//! ```
//!
//! Only the commits of the repository's own branch are pushed. Those of other branches are kept, and
//! the job's answer names their references.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::{TaskContext, TaskError, turn_spec};
use crate::config::repository::{GateConfig, RepositoryRules};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::job::JobCommits;
use crate::core::model::plural::plural;
use crate::core::tables::guardrail;
use crate::redact::Redactor;
use crate::workspace::base::{self, Base, PushOutcome};
use crate::workspace::fitness::{self, Fitness, RunCommits};
use crate::workspace::pool::Pool;
use crate::workspace::walled_git::WalledGit;
use crate::workspace::{WorkspaceError, import, leaks, lfs, throwaway};

/// The most branches of a clone whose commits are kept.
const BRANCHES: usize = 32;
/// How often a push that the remote rejected is tried again at most. While the remote is away, tries
/// go on until the job's time is over.
const RETRIES: u32 = 3;
/// The pause before the first of these, doubling each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The commits of one clone, as found there.
struct Tips {
    /// The newest commit of the repository's branch, as the agent left or pushed it.
    branch: Option<Sha>,
    /// The newest commits of all other branches, and of a detached head.
    others: Vec<Sha>,
}

/// The commits of a clone after their import.
pub(super) struct Kept {
    pub commits: JobCommits,
    /// The newest commit of the repository's branch, under the first reference.
    branch: Option<Sha>,
}

/// Takes the commits in and, if the agent reported success and the configuration says so, pushes
/// them.
pub(super) async fn run(task: &TaskContext, done: bool) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let clone = task.worktree()?;
    let Some(Kept { mut commits, branch }) = keep(task, &pool, &clone).await? else {
        return Ok(RunFact::Collected { commits: None });
    };
    let pushes = done && task.config.service.as_ref().is_some_and(|service| service.push);
    let pushed = match branch {
        Some(head) if pushes => {
            let git = task.clone_git(&pool, &clone);
            push(task, &pool, &git, head, &commits.kept[0]).await.map(Some)
        }
        // The agent may have pushed with a credential of its own.
        Some(head) => {
            let _turn = task.runtime.workspaces.fetch_turn(task.run.work.repo()).await;
            Ok(has_landed(pool.base(), &head).await.then_some(head))
        }
        // Another branch is the agent's own wish, not an obstacle.
        None => Ok(None),
    };
    match pushed {
        Ok(Some(head)) => {
            pool.base().forget(&commits.kept.remove(0)).await.map_err(|error| error.to_string())?;
            (commits.head, commits.pushed) = (head, true);
        }
        Ok(None) => {}
        Err(why) => {
            let refs = commits.kept.join(", ");
            let why = format!("its commits were not pushed, and are kept as {refs}: {why}");
            commits.problem = Some(why.into());
        }
    }
    task.note(summary(&commits));
    Ok(RunFact::Collected { commits: Some(Box::new(commits)) })
}

/// Whether the remote's branch has a commit. Without an answer of the remote, it has not.
async fn has_landed(base: &Base, head: &Sha) -> bool {
    base.fetch().await.is_ok() && base.contains(head).await.unwrap_or(false)
}

/// Imports every commit of a clone that the remote lacks, under references of afk's. Returns none if
/// there is none.
pub(super) async fn keep(
    task: &TaskContext,
    pool: &Pool,
    clone: &Path,
) -> Result<Option<Kept>, TaskError> {
    let text = |error: WorkspaceError| error.to_string();
    let base = pool.base();
    let git = task.clone_git(pool, clone);
    git.break_locks().await.map_err(text)?;
    let mut problem: Option<String> = None;
    match throwaway::fetch_pushes(&git).await {
        Ok(()) => {}
        Err(error) if error.outage().is_some() => return Err(error.into()),
        Err(error) => problem = Some(format!("the job's own pushes can't be read: {error}")),
    }
    let Tips { branch, others } = tips(base, &git).await.map_err(text)?;
    let Some(head) = branch.as_ref().or(others.first()).cloned() else {
        return problem.map_or(Ok(None), |why| Err(why.into()));
    };
    let upstream = base.head().await.map_err(text)?;
    let mut kept: Vec<(String, &Sha)> = Vec::new();
    for tip in branch.iter().chain(&others) {
        if is_in_one_of(base, &kept, tip).await.map_err(text)? {
            continue;
        }
        let reference = match kept.len() {
            0 => base::kept(&task.run.id.to_string()),
            n => base::kept(&format!("{}-{}", task.run.id, n + 1)),
        };
        import::import(base, &git, tip, &upstream, &reference).await.map_err(text)?;
        kept.push((reference, tip));
    }
    let count = base.git().added(&upstream, &head).await.map_err(text)?.len() as u64;
    let kept = kept.into_iter().map(|(reference, _)| reference).collect();
    let problem = problem.map(Into::into);
    let commits = JobCommits { head, count, pushed: false, kept, problem };
    Ok(Some(Kept { commits, branch }))
}

/// Whether the history of a commit that is kept already has another one.
async fn is_in_one_of(
    base: &Base,
    kept: &[(String, &Sha)],
    tip: &Sha,
) -> Result<bool, WorkspaceError> {
    if !base.knows(tip).await? {
        return Ok(false);
    }
    for (_, known) in kept {
        if base.has(known, tip).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The commits of a clone that no branch of the remote has, as of the last fetch.
async fn tips(base: &Base, git: &WalledGit) -> Result<Tips, WorkspaceError> {
    // Tags, notes and stashes hold commits as well. An annotated tag is an object of its own.
    let format = "--format=%(objecttype)|%(objectname)|%(*objecttype)|%(*objectname)|%(refname)";
    let listed = git.call(&["for-each-ref", format]).await?;
    let commit_of = |line: &str| {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let [kind, object, of, peeled, name] = fields[..] else { return None };
        let sha = match (kind, of) {
            ("commit", _) => object,
            (_, "commit") => peeled,
            _ => return None,
        };
        Some((sha.to_owned(), name.to_owned()))
    };
    let of_base = ["for-each-ref", "--format=%(objectname)", "refs/remotes/origin"];
    let of_base = base.git().call(&of_base).await?;
    let mut seen: BTreeSet<String> = of_base.lines().map(str::to_owned).collect();
    // What the agent pushed comes before what it only committed.
    let own = [
        format!("{}/heads/{}", throwaway::PUSHED, base.branch()),
        format!("refs/remotes/origin/{}", base.branch()),
        format!("refs/heads/{}", base.branch()),
    ];
    let (mut branch, mut others) = (Vec::new(), Vec::new());
    let detached = git.commit("HEAD").await?.map(|sha| (sha.0, "HEAD".to_owned()));
    let mut named: Vec<(String, String)> =
        listed.lines().filter_map(commit_of).chain(detached).collect();
    // A commit with several names is the repository's branch's, if that is one of them.
    named.sort_by_key(|(_, name)| own.iter().position(|own| own == name).unwrap_or(own.len()));
    for (sha, name) in named {
        let is_sha = sha.len() == 40 && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_sha || !seen.insert(sha.clone()) {
            continue;
        }
        let sha = Sha(sha);
        if on_remote(base, &sha).await? {
            continue;
        }
        if own.contains(&name) { &mut branch } else { &mut others }.push(sha);
    }
    // The agent may have committed on after its push, or pushed from elsewhere.
    let mut branch = branch.into_iter();
    let mut newest = branch.next();
    for later in branch {
        let (kept, ahead) = match newest {
            Some(known) if !is_ancestor(git, &known, &later).await? => (later, known),
            Some(known) => (known, later),
            None => break,
        };
        others.push(kept);
        newest = Some(ahead);
    }
    if others.len() > BRANCHES {
        let why = format!("{} branches are more than {BRANCHES}", others.len());
        return Err(WorkspaceError::Refused { why });
    }
    Ok(Tips { branch: newest, others })
}

async fn is_ancestor(git: &WalledGit, old: &Sha, new: &Sha) -> Result<bool, WorkspaceError> {
    Ok(git.ask(&["merge-base", "--is-ancestor", &old.0, &new.0]).await?.ok)
}

/// Whether a branch of the remote has a commit, as of the last fetch.
async fn on_remote(base: &Base, sha: &Sha) -> Result<bool, WorkspaceError> {
    if !base.knows(sha).await? {
        return Ok(false);
    }
    let args = ["for-each-ref", "--count=1", "--contains", &sha.0, "refs/remotes/origin"];
    let found = base.git().ask(&args).await?;
    Ok(found.ok && !found.out.is_empty())
}

/// Checks and pushes a commit, rebasing it where others have pushed meanwhile. Returns the commit that
/// the remote has.
async fn push(
    task: &TaskContext,
    pool: &Pool,
    git: &WalledGit,
    mut head: Sha,
    reference: &str,
) -> Result<Sha, String> {
    let text = |error: WorkspaceError| error.to_string();
    let (base, mut start) = (pool.base(), task.base().map_err(|error| error.to_string())?);
    let rules = task.rules_if_any(pool, &start).await.map_err(|error| error.to_string())?;
    let gate = rules.as_ref().map(|rules| rules.gate.clone()).unwrap_or_default();
    let (mut retries, until) = (0, Instant::now() + turn_spec::limit(task));
    loop {
        // Jobs of one repository fetch and push one after the other.
        let turn = task.runtime.workspaces.fetch_turn(task.run.work.repo()).await;
        check(task, base, git, &gate, &start, &head).await?;
        let commits = RunCommits { run: task.run.id, base: &start, pushed: None, head: &head };
        let mut is_away = false;
        let failed = match base.push(commits).await {
            Ok(PushOutcome::Landed) => return Ok(head),
            Ok(PushOutcome::Rejected(why)) => why,
            Ok(PushOutcome::Rewritten(question)) => return Err(question.line),
            Ok(PushOutcome::Protected(why)) => {
                return Err(format!("the branch's rules forbid it: {why}"));
            }
            Ok(PushOutcome::Denied(why)) => {
                return Err(format!("the remote does not let us in: {why}"));
            }
            Ok(PushOutcome::Refused(why)) => why,
            Err(error) => {
                is_away = error.outage().is_some();
                error.to_string()
            }
        };
        let pause = (PAUSE * 2u32.pow(retries.min(8))).min(LONGEST_PAUSE);
        if retries >= RETRIES && !(is_away && Instant::now() + pause < until) {
            return Err(failed);
        }
        if is_away {
            task.note(format!("{failed}; afk pushes again in {} s", pause.as_secs()));
        }
        let upstream = base.head().await.map_err(text)?;
        let has_moved_on = !base.has(&head, &upstream).await.map_err(text)?;
        if !has_moved_on {
            drop(turn);
            tokio::time::sleep(pause).await;
        }
        retries += 1;
        if has_moved_on {
            head = rebase(base, git, &start, &head, &upstream).await?;
            import::import(base, git, &head, &upstream, reference).await.map_err(text)?;
            start = upstream;
        }
    }
}

/// The checks that every push of afk passes, except for the tests: a job's caller asked for its change.
async fn check(
    task: &TaskContext,
    base: &Base,
    git: &WalledGit,
    gate: &GateConfig,
    start: &Sha,
    head: &Sha,
) -> Result<(), String> {
    let text = |error: WorkspaceError| error.to_string();
    let commits = RunCommits { run: task.run.id, base: start, pushed: None, head };
    let fork = match fitness::of_run(base, commits, gate).await.map_err(text)? {
        Fitness::Fit { base } => base,
        Fitness::Unfit { why } => return Err(why),
        Fitness::Ask(question) => return Err(question.line),
    };
    if let Some(why) = lfs::take(base, git, &fork, head, gate).await.map_err(text)? {
        return Err(why);
    }
    let own = base.git().owned_by(&task.owner());
    let range = format!("{fork}..{head}");
    let messages = own.call(&["log", "--format=%B", &range]).await.map_err(text)?;
    if guardrail::skips_ci(&messages) {
        return Err("a commit's message skips CI".into());
    }
    let limit = Duration::from_secs(task.config.limits.git_seconds);
    let found = leaks::scan(&own, &fork, head, gate, &Redactor::default(), limit).await;
    let places: Vec<String> = found.map_err(text)?.iter().map(leaks::Leak::summary).collect();
    if places.is_empty() {
        return Ok(());
    }
    let count = plural(places.len(), "place");
    Err(format!("the commits have {count} that must not be pushed: {}", places.join("; ")))
}

/// Replays the commits after `start` onto the upstream, in the clone, and returns the new head.
async fn rebase(
    base: &Base,
    git: &WalledGit,
    start: &Sha,
    head: &Sha,
    upstream: &Sha,
) -> Result<Sha, String> {
    let text = |error: WorkspaceError| error.to_string();
    git.track(base.branch(), upstream).await.map_err(text)?;
    // Changes that the agent didn't commit are none of the job's, and must not stand in the way.
    git.ask(&["checkout", "--quiet", "--force", "--detach", &head.0]).await.map_err(text)?;
    let onto = ["rebase", "--quiet", "--onto", &upstream.0, &start.0];
    let answer = git.ask(&onto).await.map_err(text)?;
    if !answer.ok {
        git.ask(&["rebase", "--abort"]).await.map_err(text)?;
        let now = upstream.short();
        return Err(format!("{} is at {now} now, and the commits conflict with it", base.branch()));
    }
    let none = || "the rebase left no commit".to_owned();
    git.commit("HEAD").await.map_err(text)?.ok_or_else(none)
}

/// What became of a job's commits, for its transcript.
pub(super) fn summary(commits: &JobCommits) -> String {
    let (count, head) = (plural(commits.count, "commit"), commits.head.short());
    if commits.pushed {
        return format!("pushed {count} up to {head}: confirmed on the remote");
    }
    let kept = commits.kept.join(", ");
    match &commits.problem {
        Some(problem) => problem.clean_line(),
        None => format!("{count} up to {head} are kept as {kept}"),
    }
}

impl TaskContext {
    /// git in a job's clone, inside the sandbox.
    pub(super) fn clone_git(&self, pool: &Pool, clone: &Path) -> WalledGit {
        let repository = self.runtime.workspaces.folder(self.run.work.repo());
        let sandbox = self.runtime.wall.git_sandbox(clone, &repository);
        pool.base().git().walled(clone, sandbox).owned_by(&self.owner())
    }

    /// The rules of a commit; none if the repository has none there.
    ///
    /// # Errors
    /// A line for a person if git can't read the commit, or the file is not valid.
    pub(super) async fn rules_if_any(
        &self,
        pool: &Pool,
        base: &Sha,
    ) -> Result<Option<std::sync::Arc<RepositoryRules>>, TaskError> {
        let name = crate::config::repository::FILE;
        let args = ["ls-tree", "--name-only", &base.0, "--", name];
        let listed = pool.base().git().call(&args);
        if listed.await.map_err(|error| error.to_string())?.is_empty() {
            return Ok(None);
        }
        self.rules(pool, base).await.map(Some)
    }
}
