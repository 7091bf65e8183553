//! Runs a turn as a Kubernetes Job: the pod runs the same afk as a worker, in the same worktree on
//! a shared volume. The pod passes the restricted profile of the Pod Security Standards, so that a
//! namespace can enforce it; no setting loosens that.
//!
//! The Job has the turn's name, so that creating it twice finds the first one. Table T8
//! (`core::tables::job`) reads the Job's state. Events arrive through the [`TurnFolder`], which
//! keeps them while no afk reads it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::folder::{JsonLines, TurnFolder, WorkerMessage};
use super::{BoxError, Executor, ExecutorTurn};
use crate::agent::{EventSender, TurnControl};
use crate::cluster::{CachedClient, reason};
use crate::config::executor::KubernetesJobsConfig;
use crate::config::services::KubernetesConfig;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::untrusted::clean_line;
use crate::core::tables::job::{Condition, JobState, state};

/// The interval between two reads of the shared folder.
const FOLDER_POLL: Duration = Duration::from_millis(200);
/// The interval between two reads of the Job.
const JOB_POLL: Duration = Duration::from_secs(2);
/// The timeout of one call to the cluster.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the worker's last lines may take to arrive on the shared volume after its Job has
/// ended.
const VOLUME_DELAY: Duration = Duration::from_secs(10);
/// The most lines that are read at once.
const BATCH: usize = 128;
/// The label with a run's name, on its Jobs and pods.
const RUN_LABEL: &str = "afk.dev/run";
/// The home folder of a pod's user. It is empty at first and goes with the pod.
const HOME: &str = "/home/agent";

#[derive(Debug)]
pub(crate) struct KubernetesExecutor {
    config: KubernetesJobsConfig,
    cluster: KubernetesConfig,
    /// The numeric user and group of the pods; never root.
    user: u32,
    /// Connects at the first call.
    client: CachedClient,
}

/// The result of creating a Job, with a reason where it failed.
enum CreateOutcome {
    /// The Job exists, perhaps since before a restart.
    Exists,
    /// Trying again is futile.
    Rejected(String),
    /// The Job may exist or not; trying again is harmless.
    Retry(String),
}

/// Returns the user of the pods: the configured one, or afk's own, who owns the worktrees.
fn pod_user(configured: Option<u32>, own: u32) -> Result<u32, String> {
    match configured.unwrap_or(own) {
        0 => Err(
            "afk runs as root here, and a pod must not run as root: set `user` to the number of \
                  another user, who must own the state folder"
                .into(),
        ),
        user => Ok(user),
    }
}

fn timed_out() -> String {
    format!("the cluster did not respond within {} s", CALL_TIMEOUT.as_secs())
}

impl KubernetesExecutor {
    /// Fails if the pods would run as root.
    pub(crate) fn new(
        config: KubernetesJobsConfig,
        cluster: KubernetesConfig,
    ) -> Result<Arc<Self>, String> {
        let user = pod_user(config.user, rustix::process::geteuid().as_raw())?;
        Ok(Arc::new(Self { config, cluster, user, client: CachedClient::default() }))
    }

    async fn api(&self) -> Result<Api<Job>, String> {
        let client = self.client.get(&self.cluster, self.config.context.as_deref()).await?;
        Ok(Api::namespaced(client, &self.config.namespace))
    }

    /// Builds the Job's manifest.
    fn manifest(&self, turn: &ExecutorTurn) -> Value {
        let config = &self.config;
        let folder = TurnFolder::new(&turn.root, &turn.name);
        let mut command = config.command.clone();
        command.extend(["worker".to_owned(), folder.path().display().to_string()]);
        let mut labels = json!({"app.kubernetes.io/managed-by": "afk", RUN_LABEL: turn.run});
        if let Some(queue) = &config.queue {
            labels["kueue.x-k8s.io/queue-name"] = json!(queue);
        }
        let env_from: Vec<Value> =
            config.env_from.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
        // Later than the turn's own limit: it ends a pod whose worker hangs.
        let seconds = turn.limit.as_secs() + 120;
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            // Without it, the environment lists the services of the namespace.
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": self.user,
                "runAsGroup": self.user,
                "fsGroup": self.user,
                // A change of every owner on a large volume would delay each turn.
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": config.node_selector,
            "tolerations": config.tolerations,
            "containers": [{
                "name": "worker",
                "image": config.image,
                "command": command,
                "workingDir": turn.spec.cwd,
                "envFrom": env_from,
                "env": [{"name": "HOME", "value": HOME}],
                "resources": {"requests": config.requests, "limits": config.limits},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "privileged": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "work", "mountPath": config.mount},
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "home", "mountPath": HOME},
                ],
            }],
            "volumes": [
                {"name": "work", "persistentVolumeClaim": {"claimName": config.claim}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "home", "emptyDir": {}},
            ],
        });
        if let Some(name) = &config.service_account {
            pod["serviceAccountName"] = json!(name);
        }
        if let Some(name) = &config.priority_class {
            pod["priorityClassName"] = json!(name);
        }
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": turn.name, "labels": labels},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": seconds,
                "ttlSecondsAfterFinished": config.ttl_seconds,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        })
    }

    /// Sends the Job to the cluster once.
    async fn create_once(&self, turn: &ExecutorTurn) -> CreateOutcome {
        let api = match self.api().await {
            Ok(api) => api,
            Err(why) => return CreateOutcome::Retry(why),
        };
        let job: Job = match serde_json::from_value(self.manifest(turn)) {
            Ok(job) => job,
            Err(error) => return CreateOutcome::Rejected(error.to_string()),
        };
        match timeout(CALL_TIMEOUT, api.create(&PostParams::default(), &job)).await {
            Ok(Ok(_)) => CreateOutcome::Exists,
            // Created before a restart, or the response was lost.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => CreateOutcome::Exists,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 404 | 422) => {
                CreateOutcome::Rejected(clean_line(&status.message))
            }
            Ok(Err(error)) => CreateOutcome::Retry(reason(&error)),
            Err(_) => CreateOutcome::Retry(timed_out()),
        }
    }

    async fn job_state(&self, name: &str) -> Result<JobState, String> {
        let api = self.api().await?;
        let found = timeout(CALL_TIMEOUT, api.get_opt(name)).await.map_err(|_| timed_out())?;
        let found = found.map_err(|error| reason(&error))?;
        let Some(job) = found else { return Ok(state(None)) };
        let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
        let conditions: Vec<Condition> = conditions
            .into_iter()
            .map(|condition| Condition {
                kind: condition.type_,
                holds: condition.status == "True",
                reason: condition.reason.unwrap_or_default(),
            })
            .collect();
        Ok(state(Some(&conditions)))
    }

    /// Writes the task, creates the Job, and emits what the worker writes until the turn ends.
    async fn follow(
        &self,
        turn: &ExecutorTurn,
        events: &EventSender,
        controls: &mut mpsc::Receiver<TurnControl>,
    ) -> TurnEnd {
        if !turn.root.starts_with(&self.config.mount) {
            let (root, mount) = (turn.root.display(), self.config.mount.display());
            let why = format!("the state folder {root} is not on the shared volume at {mount}");
            return TurnEnd::NotStarted { why: why.into() };
        }
        let folder = TurnFolder::new(&turn.root, &turn.name);
        if let Err(error) = folder.write_task(&turn.spec) {
            let why = format!("write the task to {}: {error}", folder.path().display());
            return TurnEnd::NotStarted { why: why.into() };
        }
        let mut follower = JobFollower::new(turn, folder, events);
        if let Some(end) = self.create(turn, &mut follower).await {
            return end;
        }
        let (mut folder_poll, mut job_poll) = (interval(FOLDER_POLL), interval(JOB_POLL));
        loop {
            tokio::select! {
                _ = folder_poll.tick() => {
                    if let Some(end) = follower.read_messages().await {
                        return end;
                    }
                }
                Some(control) = controls.recv() => {
                    if let Err(error) = follower.folder.append_control(&control) {
                        let text = format!("afk can't pass a message to the worker: {error}");
                        follower.notice_once(text).await;
                    }
                }
                _ = job_poll.tick() => {
                    let state = self.job_state(&turn.name).await;
                    if let Some(end) = follower.apply_job_state(state, &self.config).await {
                        self.delete(&turn.name).await;
                        return end;
                    }
                }
            }
        }
    }

    /// Creates the Job, and retries an unreachable cluster until the turn's limit has elapsed.
    async fn create(&self, turn: &ExecutorTurn, follower: &mut JobFollower<'_>) -> Option<TurnEnd> {
        let deadline = Instant::now() + turn.limit;
        let mut pause = Duration::from_secs(1);
        loop {
            match self.create_once(turn).await {
                CreateOutcome::Exists => return None,
                CreateOutcome::Rejected(why) => {
                    let why = format!("the cluster rejected the Job {}: {why}", turn.name);
                    return Some(TurnEnd::NotStarted { why: why.into() });
                }
                CreateOutcome::Retry(why) if Instant::now() >= deadline => {
                    let why = format!("the cluster can't be reached: {why}");
                    return Some(TurnEnd::NotStarted { why: why.into() });
                }
                CreateOutcome::Retry(why) => {
                    follower
                        .notice_once(format!("the cluster can't be reached ({why}); afk retries"))
                        .await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    async fn delete(&self, name: &str) {
        let Ok(api) = self.api().await else { return };
        // The Job may be gone already; otherwise its own deadline ends it.
        let _ = timeout(CALL_TIMEOUT, api.delete(name, &DeleteParams::background())).await;
    }
}

/// The state of following one turn.
struct JobFollower<'a> {
    turn: &'a ExecutorTurn,
    folder: TurnFolder,
    events: &'a EventSender,
    unread: JsonLines<WorkerMessage>,
    /// Since when the Job is due to start. Time in the cluster's queue doesn't count.
    waiting_since: Instant,
    /// The worker has written a line.
    worker_started: bool,
    /// When the Job ended without an end of the turn, and how.
    job_ended: Option<(Instant, String)>,
    last_notice: String,
}

impl<'a> JobFollower<'a> {
    fn new(turn: &'a ExecutorTurn, folder: TurnFolder, events: &'a EventSender) -> Self {
        Self {
            turn,
            unread: folder.unread_messages(),
            folder,
            events,
            waiting_since: Instant::now(),
            worker_started: false,
            job_ended: None,
            last_notice: String::new(),
        }
    }

    /// Emits a notice, unless it repeats the last one.
    async fn notice_once(&mut self, text: String) {
        if self.last_notice != text {
            self.last_notice.clone_from(&text);
            // The receiver is gone during a shutdown.
            let _ = self.events.send(AgentEvent::Notice { text: text.into() }).await;
        }
    }

    /// Emits the worker's new messages, and returns the turn's end once it has arrived.
    async fn read_messages(&mut self) -> Option<TurnEnd> {
        let lines = match self.unread.next_batch(BATCH) {
            Ok(lines) => lines,
            Err(error) => {
                self.notice_once(format!("the shared folder can't be read ({error}); afk retries"))
                    .await;
                return None;
            }
        };
        if lines.is_empty() {
            return match &self.job_ended {
                Some((since, why)) if since.elapsed() > VOLUME_DELAY => {
                    Some(TurnEnd::Crashed { why: why.clone().into() })
                }
                _ => None,
            };
        }
        self.worker_started = true;
        for line in lines {
            match line {
                WorkerMessage::Begun { .. } => {}
                WorkerMessage::Event(event) => {
                    // The receiver is gone during a shutdown.
                    let _ = self.events.send(event).await;
                }
                WorkerMessage::End(end) => return Some(end),
            }
        }
        if let Err(error) = self.folder.mark_read(&self.unread) {
            tracing::warn!(turn = self.turn.name, %error, "a restart may repeat events");
        }
        None
    }

    /// Notes the Job's state, and returns an end if the worker doesn't start in time.
    async fn apply_job_state(
        &mut self,
        state: Result<JobState, String>,
        config: &KubernetesJobsConfig,
    ) -> Option<TurnEnd> {
        let ended = |why: &str| Some((Instant::now(), format!("the Job {why}")));
        match state {
            Err(why) => {
                self.notice_once(format!(
                    "the Job's state can't be read ({why}); the Job continues"
                ))
                .await;
            }
            Ok(JobState::Running | JobState::Ending) => {}
            Ok(JobState::Suspended) => {
                self.notice_once("the Job waits in the queue of the cluster".into()).await;
                self.waiting_since = Instant::now();
            }
            Ok(_) if self.job_ended.is_some() => {}
            Ok(JobState::Succeeded) => {
                self.job_ended = ended("ended and its worker reported no end");
            }
            Ok(JobState::Failed(reason)) => self.job_ended = ended(&format!("failed: {reason}")),
            Ok(JobState::Lost) => self.job_ended = ended("was deleted before it ended"),
        }
        let pending = Duration::from_secs(60 * config.pending_minutes);
        let waits = !self.worker_started && self.job_ended.is_none();
        if waits && self.waiting_since.elapsed() > pending {
            let why = format!("the Job did not start within {} min", config.pending_minutes);
            return Some(TurnEnd::Crashed { why: why.into() });
        }
        None
    }
}

impl Executor for KubernetesExecutor {
    fn check(&self) -> BoxFuture<'_, Result<String, BoxError>> {
        Box::pin(async {
            let list = async {
                let all = self.api().await?.list(&ListParams::default().limit(1)).await;
                all.map_err(BoxError::from)
            };
            let listed = timeout(CALL_TIMEOUT, list).await;
            listed.map_err(|_| timed_out())??;
            let Self { config, user, .. } = self;
            Ok(format!(
                "the Jobs of the namespace {} can be read; pods run as user {user}",
                config.namespace
            ))
        })
    }

    fn run_turn<'a>(
        &'a self,
        turn: &'a ExecutorTurn,
        events: &'a EventSender,
        controls: &'a mut mpsc::Receiver<TurnControl>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(self.follow(turn, events, controls))
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !super::has_turn_folders(root, run) {
                return;
            }
            let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={run}"));
            let delete = async {
                let api = self.api().await?;
                let jobs = api.list(&of_run).await.map_err(|error| reason(&error))?;
                for name in jobs.items.into_iter().filter_map(|job| job.metadata.name) {
                    let deleted = api.delete(&name, &DeleteParams::background()).await;
                    deleted.map_err(|error| reason(&error))?;
                }
                Ok::<(), String>(())
            };
            match timeout(CALL_TIMEOUT, delete).await {
                Ok(Ok(())) => super::remove_turn_folders(root, run),
                // The Job's deadline ends it.
                Ok(Err(why)) => tracing::warn!(run, why, "the Jobs of a run can't be deleted"),
                Err(_) => {
                    tracing::warn!(run, why = timed_out(), "the Jobs of a run can't be deleted");
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_user_is_never_root() {
        assert_eq!(pod_user(None, 1000), Ok(1000));
        assert_eq!(pod_user(Some(2000), 1000), Ok(2000));
        assert_eq!(pod_user(Some(2000), 0), Ok(2000));
        assert!(pod_user(None, 0).is_err_and(|why| why.contains("set `user`")));
    }
}
