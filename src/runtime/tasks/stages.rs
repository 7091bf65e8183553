//! The stages after the push: CI, deploy, probes.

use crate::core::model::stage::ProofLink;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::{Failure, Job};
use crate::ci::github::{self, Look, Standing};
use crate::ci::woodpecker::{self, Woodpecker};
use crate::config::repos::RepositoryConfig;
use crate::config::repository::{DeployConfig, RepositoryRules, RolloutTarget};
use crate::core::model::id::Sha;
use crate::core::model::input::{Input, RunFact};
use crate::core::model::time::Timestamp;
use crate::core::model::verdict::{Judgement, ProbeSample, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::deploy::kubernetes::{Bounds, Rollout, Told};
use crate::deploy::probe::Prober;
use crate::process::Spec;
use crate::runtime::{Message, WatcherFacts, clock};
use crate::workspace::overlay;
use crate::workspace::pool::Pool;
use crate::{ci, deploy};

/// Minutes until a check should have appeared.
const APPEAR: u32 = 10;
/// Between two looks at a service, in milliseconds.
const POLL: u64 = 10_000;
/// Looks in a row that may fail before it is told.
const LOOKS: u32 = 3;

/// The rules, and a clean checkout of the commit.
async fn checkout(job: &Job, sha: &Sha) -> Result<(Arc<RepositoryRules>, PathBuf), Failure> {
    let pool = job.pool().await?;
    let rules = job.rules(&pool, &job.base()?).await?;
    let git = pool.base().git().owned_by(&job.owner());
    let tree = overlay::check_out(&git, &job.proving_tree(), sha).await;
    Ok((rules, tree.map_err(|e| e.to_string())?.dir().to_owned()))
}

fn spec(job: &Job, line: &str, cwd: &Path, sha: &Sha) -> Spec {
    let mut spec = Spec::shell(&job.owner(), line, cwd);
    spec.env = job.environment();
    spec.env.insert("AFK_SHA".into(), sha.0.clone());
    spec
}

/// What a stage decided. Green holds only while the branch has the commit (T4 row 1), so that is
/// looked at once more.
async fn judged(
    job: &Job,
    what: &str,
    sha: Sha,
    mut judgement: Judgement,
) -> Result<RunFact, Failure> {
    if judgement.verdict == Verdict::Green {
        let base = job.pool().await?.base().clone();
        base.fetch().await.map_err(|e| e.to_string())?;
        if !base.contains(&sha).await.map_err(|e| e.to_string())? {
            let detail = format!("the branch no longer has {}", sha.short());
            judgement =
                Judgement { facts: judgement.facts, ..Judgement::new(Verdict::Lost, detail) };
        }
    }
    let Judgement { verdict, detail, log, facts } = judgement;
    job.note(format!("{what} of {}: {} ({})", sha.short(), verdict.as_str(), detail.clean_line()));
    if !log.as_received().is_empty() && verdict != Verdict::Green {
        let path = job.log(&format!("{what}-said"));
        if let Err(error) = std::fs::write(&path, log.as_received()) {
            tracing::warn!(path = %path.display(), %error, "what was said is not kept");
        }
    }
    Ok(RunFact::Judged { sha, verdict, detail, log, facts })
}

/// When the commit was pushed: our deadlines count from there, also after a restart.
fn pushed(job: &Job) -> Timestamp {
    job.run.proof.get(ProofLink::Commit).map_or_else(clock::wall, |link| link.at)
}

/// The branch that the run's repository is pushed to.
fn branch(job: &Job) -> String {
    let known = job.config.repos.get(job.run.work.repo());
    known.map_or_else(|| RepositoryConfig::default().branch, |known| known.branch.clone())
}

pub(super) async fn ci(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    let rules = job.rules(&pool, &job.base()?).await?;
    let rules = rules.ci.clone().ok_or("no CI is configured")?;
    let limit = Duration::from_secs(60 * job.config.limits.ci_minutes);
    let minutes = |minutes: u32| i64::from(minutes) * 60_000;
    let deadlines = Deadlines {
        appear: minutes(rules.appear_minutes.unwrap_or(APPEAR)),
        run: rules
            .run_minutes
            .map_or(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX), minutes),
    };
    let poll = Duration::from_millis(rules.poll_ms.unwrap_or(POLL).max(100));
    let branch = branch(job);
    let judgement = if let Some(command) = &rules.command {
        let (_, cwd) = checkout(job, &sha).await?;
        let spec = spec(job, command, &cwd, &sha);
        let done = ci::command::run(&job.shell.supervisor, &spec, &job.log("ci"), limit).await;
        done.map_err(|e| e.to_string())?
    } else if let Some(repo) = &rules.woodpecker {
        let event = "push";
        let pipelines = Pipelines { repo, branch: &branch, event, deadlines, poll };
        pipelines.follow(job, &sha, &pool).await?
    } else {
        let required = rules.required.as_slice();
        let watched = github::Watched {
            repo: job.run.work.repo(),
            branch: &branch,
            required,
            deadlines,
            pushed: pushed(job),
        };
        checks(job, &watched, &sha, &pool, poll).await?
    };
    judged(job, "CI", sha, judgement).await
}

/// What can't be seen when all should have ended is unknown, and not waited for any more.
fn over(job: &Job, deadlines: Deadlines) -> bool {
    clock::wall().since(pushed(job)) >= deadlines.run.max(60_000)
}

/// Follows GitHub's checks until they decide. Where the branch moved on and cut them off, those of
/// its head decide, which has the commit in it.
async fn checks(
    job: &Job,
    watched: &github::Watched<'_>,
    sha: &Sha,
    pool: &Pool,
    poll: Duration,
) -> Result<Judgement, Failure> {
    let api = job.shell.outside().github.clone();
    let api = api.ok_or("the repository's CI is GitHub's, and [github] is not configured")?;
    let (mut of, mut waits, mut failed) = (sha.clone(), String::new(), 0);
    loop {
        let standing = standing(pool, &of).await;
        let looked = match standing {
            Ok(standing) => {
                let looked = github::look(&api, watched, &of, &standing, clock::wall()).await;
                looked.map(|look| (look, standing)).map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        match looked {
            Ok((Look::Decided(judgement), _)) if of == *sha => return Ok(judgement),
            Ok((Look::Decided(judgement), _)) => {
                let detail = judgement.detail.clean_line();
                let detail = format!("superseded by {}, which contains it: {detail}", of.short());
                return Ok(Judgement { detail: detail.into(), ..judgement });
            }
            Ok((Look::Superseded, standing)) => {
                job.note(format!(
                    "CI of {} was cut off; that of {} decides",
                    of.short(),
                    standing.head.short()
                ));
                of = standing.head;
                continue;
            }
            Ok((Look::Pending(what), _)) => {
                failed = 0;
                if what != waits {
                    job.note(format!("CI: waits for {what}"));
                    waits = what;
                }
            }
            Err(error) => {
                failed += 1;
                if failed == LOOKS {
                    job.note(format!("CI can't be seen: {error}; it is asked again"));
                }
                if over(job, watched.deadlines) {
                    return Ok(Judgement::new(Verdict::Unknown, format!("can't be seen: {error}")));
                }
            }
        }
        sleep(poll).await;
    }
}

async fn standing(pool: &Pool, sha: &Sha) -> Result<Standing, Failure> {
    let head = pool.base().fetch().await.map_err(|e| e.to_string())?;
    let ancestor = pool.base().contains(sha).await.map_err(|e| e.to_string())?;
    Ok(Standing { ancestor, head })
}

/// Woodpecker's pipelines of one kind.
struct Pipelines<'a> {
    repo: &'a str,
    branch: &'a str,
    event: &'a str,
    deadlines: Deadlines,
    poll: Duration,
}

impl Pipelines<'_> {
    async fn follow(&self, job: &Job, sha: &Sha, pool: &Pool) -> Result<Judgement, Failure> {
        let section = job.config.woodpecker.clone();
        let section =
            section.ok_or("the repository names woodpecker, and [woodpecker] is not configured")?;
        let token = job.shell.outside().secrets.get(&section.token).await;
        let server = Woodpecker::new(&section.address, token.map_err(|e| e.to_string())?)?;
        let (mut of, mut waits, mut failed) = (sha.clone(), String::new(), 0);
        loop {
            let watched = woodpecker::Watched {
                repo: self.repo,
                branch: self.branch,
                event: self.event,
                sha: &of,
                pushed: pushed(job),
                deadlines: self.deadlines,
            };
            match server.look(&watched, clock::wall()).await {
                Ok(Look::Decided(judgement)) => return Ok(judgement),
                Ok(Look::Superseded) => {
                    let head = standing(pool, &of).await?.head;
                    if head == of {
                        // Somebody cancelled it, and nothing newer has the commit in it.
                        return Ok(Judgement::new(Verdict::Stuck, "its pipeline was cancelled"));
                    }
                    job.note(format!(
                        "the pipeline of {} was cut off; that of {} decides",
                        of.short(),
                        head.short()
                    ));
                    of = head;
                    continue;
                }
                Ok(Look::Pending(what)) => {
                    failed = 0;
                    if what != waits {
                        job.note(format!("waits for {what}"));
                        waits = what;
                    }
                }
                Err(error) => {
                    failed += 1;
                    if failed == LOOKS {
                        job.note(format!("{error}; it is asked again"));
                    }
                    if over(job, self.deadlines) {
                        return Ok(Judgement::new(Verdict::Unknown, error));
                    }
                }
            }
            sleep(self.poll).await;
        }
    }
}

pub(super) async fn deploy(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    let rules = job.rules(&pool, &job.base()?).await?;
    let rules = rules.deploy.clone().ok_or("no deploy is configured")?;
    let limit = Duration::from_secs(60 * rules.minutes.unwrap_or(job.config.limits.deploy_minutes));
    let mut judgement = Judgement::new(Verdict::Green, "nothing to roll out");
    if let Some(command) = &rules.command {
        let (_, cwd) = checkout(job, &sha).await?;
        let spec = spec(job, command, &cwd, &sha);
        let log = job.log("deploy");
        let done = deploy::command::run(&job.shell.supervisor, &spec, &log, limit).await;
        judgement = done.map_err(|e| e.to_string())?;
    }
    if judgement.verdict == Verdict::Green
        && let Some(repo) = &rules.woodpecker
    {
        let run = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let deadlines = Deadlines { appear: i64::from(APPEAR) * 60_000, run };
        let branch = &branch(job);
        let poll = Duration::from_millis(POLL);
        let pipelines = Pipelines { repo, branch, event: "manual", deadlines, poll };
        let done = pipelines.follow(job, &sha, &pool).await?;
        judgement = join(judgement, done);
    }
    if judgement.verdict == Verdict::Green && !rules.kubernetes.is_empty() {
        let done = rollouts(job, &rules, &sha, &pool, limit).await?;
        judgement = join(judgement, done);
    }
    judged(job, "deploy", sha, judgement).await
}

/// Both as one: the later one decides, and the facts of both stand.
fn join(first: Judgement, second: Judgement) -> Judgement {
    let facts = [first.facts, second.facts].concat();
    Judgement { facts, ..second }
}

/// Follows every target at once; the first that is not green decides.
async fn rollouts(
    job: &Job,
    rules: &DeployConfig,
    sha: &Sha,
    pool: &Arc<Pool>,
    deadline: Duration,
) -> Result<Judgement, Failure> {
    let soak = Duration::from_secs(rules.soak_seconds.unwrap_or(60));
    let bounds = Bounds { deadline, soak };
    let of = |target| rollout(job, target, sha, pool, bounds);
    let done = futures::future::join_all(rules.kubernetes.iter().map(of)).await;
    let mut all = Judgement::new(Verdict::Green, "");
    let mut details = Vec::new();
    for judgement in done {
        let judgement = judgement?;
        if judgement.verdict != Verdict::Green {
            return Ok(join(all, judgement));
        }
        details.push(judgement.detail.clean_line());
        all = join(all, judgement);
    }
    Ok(Judgement { detail: details.join("; ").into(), ..all })
}

async fn rollout(
    job: &Job,
    target: &RolloutTarget,
    sha: &Sha,
    pool: &Arc<Pool>,
    bounds: Bounds,
) -> Result<Judgement, Failure> {
    let client = crate::cluster::client(&job.config.kubernetes, target.context.as_deref()).await?;
    let contains = |tag: String| -> futures::future::BoxFuture<'_, bool> {
        Box::pin(async move {
            let base = pool.base();
            // One that was pushed a moment ago may not be known here yet.
            let _ = base.fetch().await;
            let name = format!("{tag}^{{commit}}");
            let Ok(found) = base.git().call(&["rev-parse", "--verify", "--quiet", &name]).await
            else {
                return false;
            };
            let args = ["merge-base", "--is-ancestor", &sha.0, &found];
            base.git().ask(&args).await.is_ok_and(|answer| answer.ok)
        })
    };
    let rollout = Rollout { client, target, sha, bounds, contains: &contains };
    let mut watched = Watched { shell: &job.shell, names: BTreeSet::new() };
    let judgement = rollout
        .judge(|told| match told {
            Told::Stands(line) => job.note(line),
            Told::Watcher(watcher) => {
                watched.names.insert(watcher.what.clone());
                let facts = WatcherFacts { heard: Timestamp(watcher.heard), error: watcher.error };
                let mut all = job.shell.watchers.lock().unwrap_or_else(PoisonError::into_inner);
                let before = all.insert(watcher.what, facts.clone());
                if before.is_none_or(|before| before.error != facts.error) {
                    // Shown with the next snapshot where the queue is full.
                    let _ = job.shell.inputs.try_send(Message::Aside);
                }
            }
        })
        .await;
    Ok(judgement)
}

/// The watchers of one rollout: listed no more once it is over, also where it is cancelled.
struct Watched<'a> {
    shell: &'a crate::runtime::Shell,
    names: BTreeSet<String>,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut all = self.shell.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|what, _| !self.names.contains(what));
    }
}

pub(super) async fn probe(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let (rules, cwd) = checkout(job, &sha).await?;
    let probe = rules.probe.clone().ok_or("no probe is configured")?;
    let supervisor = job.shell.supervisor.clone();
    let log = job.log("probe");
    let prober = Prober::new(probe, sha.clone(), supervisor, job.owner(), cwd, log);
    let prober = prober.map_err(|e| e.to_string())?;
    let (inputs, repo) = (job.shell.inputs.clone(), job.run.work.repo().clone());
    let judgement = prober.judge(|sample| {
        let latency_ms = u32::try_from(sample.latency.as_millis()).unwrap_or(u32::MAX);
        let at = clock::wall();
        let sample = ProbeSample { at, ok: sample.ok, latency_ms };
        let input = Input::Probe { repo: repo.clone(), sample };
        // A sample that finds the queue full is missing from the sparkline and nothing else.
        let _ = inputs.try_send(Message::Input(Box::new(input)));
    });
    judged(job, "probe", sha, judgement.await).await
}
