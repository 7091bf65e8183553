//! Outages as the runtime sees them: which cause an adapter's error stands for, and the tries
//! whether one is over. The core decides when to try; here is how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::tasks::TaskError;
use super::tasks::question::{self, AgentQuestion};
use super::{Context, LoopMessage};
use crate::cluster;
use crate::config::Config;
use crate::config::repos::remote_name;
use crate::core::model::id::Repo;
use crate::core::model::input::{Input, TryFailure};
use crate::core::model::outage::{OutageCause, OutageKind};
use crate::error::chain;
use crate::executor;
use crate::github::ApiError;
use crate::network::{NetworkError, origin};
use crate::process::descriptors;
use crate::redact::Redactor;
use crate::secrets::Secrets;
use crate::tracker::TrackerError;

/// The longest that a try takes beyond the limit of git.
const SLACK: Duration = Duration::from_secs(30);
/// The time limit of a try of an agent's login. Some agents repeat a refused request for a while.
const LOGIN: Duration = Duration::from_secs(150);
/// The question that tries it.
const LOGIN_QUESTION: &str = "Reply with the word OK and nothing else.";
/// The time limit of a call to a CI server.
const CALL: Duration = Duration::from_secs(20);
/// The subject of an outage of the cluster that the kubeconfig names by itself.
const CURRENT: &str = "of the current context";

/// The cause that an error of GitHub's API stands for, and the wait that GitHub demands; none where
/// the API answered and refuses this one request.
pub(super) fn of_api(config: &Config, error: &ApiError) -> Option<(OutageCause, i64)> {
    let api = config.github.as_ref().map(|github| origin(&github.api)).unwrap_or_default();
    let (kind, wait) = match error {
        ApiError::Failed { .. } | ApiError::Unknown { .. } => (OutageKind::Forge, 0),
        ApiError::Limited { seconds } => {
            (OutageKind::Forge, i64::try_from(*seconds).unwrap_or(3600) * 1000)
        }
        ApiError::Token(_) | ApiError::Credential(_) => (OutageKind::Credential, 0),
        ApiError::Refused { .. } => return None,
    };
    Some((OutageCause::new(kind, api), wait))
}

/// Reports the outage that an error of a tracker stands for, if it stands for one.
pub(super) fn report(context: &Context, error: &TrackerError) {
    let TrackerError::GitHub(error) = error else { return };
    let Some((cause, wait_ms)) = of_api(&context.config(), error) else { return };
    let failure = TryFailure { wait_ms, ..failed(chain(error)) };
    let input = Input::Unavailable { cause, repo: None, failure };
    // If the queue is full, the next failure reports it.
    let _ = context.inputs.try_send(LoopMessage::Input(Box::new(input)));
}

/// The cause that an unreadable CI server stands for.
pub(super) fn of_ci(address: &str) -> OutageCause {
    OutageCause::new(OutageKind::Ci, origin(address))
}

/// The cause that an unreadable cluster stands for; `denied` if it answers and refuses.
pub(super) fn of_cluster(context: Option<&str>, denied: bool) -> OutageCause {
    let kind = if denied { OutageKind::ClusterLogin } else { OutageKind::Cluster };
    OutageCause::new(kind, context.unwrap_or(CURRENT))
}

/// The cause that an executor which can't be reached stands for.
pub(super) fn of_executor(name: &str) -> OutageCause {
    OutageCause::new(OutageKind::Executor, name)
}

/// Reads a secret for a task. While Vault is away, the error is an outage.
pub(super) async fn secret(context: &Context, reference: &str) -> Result<SecretString, TaskError> {
    secret_from(&context.config(), &context.services().secrets, reference).await
}

/// Reads a secret from where the configuration keeps it, without a runtime.
pub(super) async fn secret_from(
    config: &Config,
    secrets: &Secrets,
    reference: &str,
) -> Result<SecretString, TaskError> {
    let read = secrets.get(reference).await;
    read.map_err(|error| match config.vault.as_ref().filter(|_| error.is_outage()) {
        Some(vault) => {
            let cause = OutageCause::new(OutageKind::Secrets, origin(&vault.address));
            TaskError::outage(cause, chain(&error), 0)
        }
        None => chain(&error).into(),
    })
}

/// Tries whether an outage is over, and reports the result to the core.
pub(super) async fn probe(
    context: Arc<Context>,
    cause: OutageCause,
    repo: Option<Repo>,
    holds_runs: bool,
) {
    let config = context.config();
    let asks_agent = cause.kind == OutageKind::AgentLogin && !holds_runs;
    let limit = if asks_agent { LOGIN } else { Duration::from_secs(config.limits.git_seconds) };
    let limit = limit + SLACK;
    let work = async {
        if asks_agent {
            login(&context, &config, &cause.subject).await
        } else {
            attempt(&context, &config, &cause, repo.as_ref()).await
        }
    };
    let work = timeout(limit, work);
    let result = tokio::select! {
        () = context.cancel.cancelled() => return,
        result = work => result,
    };
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(_) => Some(failed(format!("no answer in {} s", limit.as_secs()))),
    };
    match &failure {
        None => tracing::info!(cause = cause.summary(), "the outage is over"),
        Some(failure) => {
            tracing::debug!(cause = cause.summary(), why = failure.why.clean_line(), "still away");
        }
    }
    context.send(Input::OutageTried { cause, failure }).await;
}

fn failed(why: impl Into<String>) -> TryFailure {
    let why: String = why.into();
    let why = Redactor::default().clean(&why).into_owned();
    TryFailure { why: why.into(), wait_ms: 0 }
}

async fn attempt(
    context: &Arc<Context>,
    config: &Arc<Config>,
    cause: &OutageCause,
    repo: Option<&Repo>,
) -> Result<(), TryFailure> {
    match cause.kind {
        OutageKind::Remote => remote(context, config, cause, repo).await,
        OutageKind::Credential => {
            let api = config.github.as_ref().map(|github| origin(&github.api));
            if api.as_ref() == Some(&cause.subject) {
                return forge(context, config).await;
            }
            remote(context, config, cause, repo).await
        }
        OutageKind::Forge => forge(context, config).await,
        OutageKind::Ci => {
            let client = reqwest::Client::builder().timeout(CALL).no_proxy().build();
            let client = client.map_err(|error| failed(chain(&error)))?;
            let answer = client.get(&cause.subject).send().await;
            let answer =
                answer.map_err(|error| failed(chain(&NetworkError::new(&cause.subject, error))))?;
            if answer.status().is_server_error() {
                return Err(failed(format!("{} answered {}", cause.subject, answer.status())));
            }
            Ok(())
        }
        OutageKind::Cluster => {
            let name = Some(cause.subject.as_str()).filter(|name| *name != CURRENT);
            let client = cluster::client(&config.kubernetes, name).await.map_err(failed)?;
            let version = client.apiserver_version().await;
            version.map(|_| ()).map_err(|error| failed(cluster::reason(&error)))
        }
        OutageKind::Secrets => {
            let answers = context.services().secrets.answers().await;
            answers.map_err(|error| failed(chain(&error)))
        }
        OutageKind::Executor => {
            // One that is no longer configured holds nothing up: the run reports it.
            let executor = context.services().executors.get(&cause.subject).cloned();
            let Some(executor) = executor else { return Ok(()) };
            match executor.check().await {
                Err(error) if executor::is_away(&*error) => Err(failed(chain(&*error))),
                _ => Ok(()),
            }
        }
        OutageKind::Disk => {
            let root = context.workspaces.root();
            crate::workspace::pool::check_disk(root, config.limits.disk_free_mib)
                .map_err(|error| failed(error.to_string()))
        }
        // Only a turn or a rollout shows it, so the runs that it holds try.
        OutageKind::UsageLimit | OutageKind::AgentLogin | OutageKind::ClusterLogin => Ok(()),
        OutageKind::Descriptors => descriptors::wait_for_room().await.map_err(failed),
        OutageKind::Processes => {
            let mut command = tokio::process::Command::new("git");
            command.arg("--version").stdout(std::process::Stdio::null()).kill_on_drop(true);
            let done = command.status().await;
            done.map(|_| ()).map_err(|error| failed(format!("start git: {}", chain(&error))))
        }
    }
}

/// Tries the login of an agent in whose place another one works, so that no turn of a run shows it: only
/// a request to its model does, and this is the smallest.
async fn login(context: &Arc<Context>, config: &Config, agent: &str) -> Result<(), TryFailure> {
    if !config.agents.contains_key(agent) {
        // No run needs it any longer.
        return Ok(());
    }
    let question = AgentQuestion {
        owner: format!("login-{agent}"),
        agent: agent.to_owned(),
        prompt: LOGIN_QUESTION.into(),
        resume: None,
        model: None,
        limit: LOGIN,
        env: BTreeMap::new(),
    };
    let (sender, mut events) = mpsc::channel(64);
    let drain = async { while events.recv().await.is_some() {} };
    let (answer, ()) = tokio::join!(question::ask(context, question, sender), drain);
    answer.map(|_| ()).map_err(failed)
}

/// Asks the remote of a repository that the outage concerns.
async fn remote(
    context: &Arc<Context>,
    config: &Arc<Config>,
    cause: &OutageCause,
    repo: Option<&Repo>,
) -> Result<(), TryFailure> {
    let concerns =
        |known: &&Repo| config.repos.get(*known).is_some_and(|r| is_at(&r.remote, &cause.subject));
    let Some(repo) = repo.filter(concerns).or_else(|| config.repos.keys().find(concerns)) else {
        // The outage is about another remote of a repository, such as that of a submodule: the run
        // that met it tries.
        return Ok(());
    };
    let answers = context.workspaces.remote_answers(repo, config, &context.supervisor).await;
    answers.map_err(|error| failed(error.to_string()))
}

fn is_at(address: &str, subject: &str) -> bool {
    remote_name(address) == subject
}

/// Asks GitHub's API for something that every token may read.
async fn forge(context: &Arc<Context>, config: &Config) -> Result<(), TryFailure> {
    let Some(api) = context.services().github.clone() else { return Ok(()) };
    match api.get::<serde_json::Value>("/rate_limit").await {
        Ok(_) => Ok(()),
        Err(error) => match of_api(config, &error) {
            None => Ok(()),
            Some((_, wait_ms)) => Err(TryFailure { wait_ms, ..failed(chain(&error)) }),
        },
    }
}
