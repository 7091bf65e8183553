//! Turns as Kubernetes Jobs: the pod runs the same afk in the same worktree, on a shared volume.
//!
//! The Job's name is the turn's, so that to create it twice is to find it. Table T8 decides how it
//! stands; what the agent said is in the shared folder, whoever was looking meanwhile.

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

use super::folder::{Folder, Told};
use super::{Executor, Turn};
use crate::agent::{Control, Events};
use crate::cluster::Cached;
use crate::config::executor::KubernetesJobsConfig;
use crate::config::services::KubernetesConfig;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::untrusted::clean_line;
use crate::core::tables::job::{Condition, JobState, state};

/// Between two looks at the shared folder.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at the Job.
const ASK: Duration = Duration::from_secs(2);
/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// How long what the worker wrote last may take to be seen here, once its Job has ended.
const SHARED: Duration = Duration::from_secs(10);
/// Lines that are taken at once.
const LINES: usize = 128;
/// The label of all Jobs of a run.
const RUN: &str = "afk.dev/run";

/// See the module.
#[derive(Debug)]
pub struct Jobs {
    config: KubernetesJobsConfig,
    cluster: KubernetesConfig,
    /// Made when it is first needed.
    client: Cached,
}

/// What asking for a Job led to.
enum Asked {
    There,
    /// It will never be.
    Refused(String),
    /// Nobody knows; to ask again is harmless.
    Again(String),
}

impl Jobs {
    /// As configured.
    #[must_use]
    pub fn new(config: KubernetesJobsConfig, cluster: KubernetesConfig) -> Arc<Self> {
        Arc::new(Self { config, cluster, client: Cached::default() })
    }

    async fn api(&self) -> Result<Api<Job>, String> {
        let client = self.client.get(&self.cluster, self.config.context.as_deref()).await?;
        Ok(Api::namespaced(client, &self.config.namespace))
    }

    /// The Job as it is created.
    fn job(&self, turn: &Turn) -> Value {
        let config = &self.config;
        let folder = Folder::new(&turn.root, &turn.name);
        let mut command = config.command.clone();
        command.extend(["worker".to_owned(), folder.path().display().to_string()]);
        let mut labels = json!({"app.kubernetes.io/managed-by": "afk", RUN: turn.run});
        if let Some(queue) = &config.queue {
            labels["kueue.x-k8s.io/queue-name"] = json!(queue);
        }
        let env_from: Vec<Value> =
            config.env_from.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
        // Beside the turn's own limit, for a worker that is not heard of any more.
        let seconds = turn.limit.as_secs() + 120;
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "nodeSelector": config.node_selector,
            "tolerations": config.tolerations,
            "containers": [{
                "name": "worker",
                "image": config.image,
                "command": command,
                "workingDir": turn.spec.cwd,
                "envFrom": env_from,
                "resources": {"requests": config.requests, "limits": config.limits},
                "volumeMounts": [{"name": "work", "mountPath": config.mount}],
            }],
            "volumes": [{
                "name": "work",
                "persistentVolumeClaim": {"claimName": config.claim},
            }],
        });
        if let Some(name) = &config.service_account {
            pod["serviceAccountName"] = json!(name);
        }
        if let Some(name) = &config.priority_class {
            pod["priorityClassName"] = json!(name);
        }
        if let Some(user) = config.user {
            pod["securityContext"] = json!({"runAsUser": user, "fsGroup": user});
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

    async fn ask(&self, turn: &Turn) -> Asked {
        let api = match self.api().await {
            Ok(api) => api,
            Err(why) => return Asked::Again(why),
        };
        let job: Job = match serde_json::from_value(self.job(turn)) {
            Ok(job) => job,
            Err(error) => return Asked::Refused(error.to_string()),
        };
        match timeout(CALL, api.create(&PostParams::default(), &job)).await {
            Ok(Ok(_)) => Asked::There,
            // It is there already: from an earlier life, or an answer that was lost.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Asked::There,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 403 | 404 | 422) => {
                Asked::Refused(clean_line(&status.message))
            }
            Ok(Err(error)) => Asked::Again(clean_line(&error.to_string())),
            Err(_) => Asked::Again("no answer".into()),
        }
    }

    async fn stands(&self, name: &str) -> Result<JobState, String> {
        let api = self.api().await?;
        let found = timeout(CALL, api.get_opt(name)).await.map_err(|_| "no answer".to_owned())?;
        let found = found.map_err(|error| clean_line(&error.to_string()))?;
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

    async fn follow(
        &self,
        turn: &Turn,
        events: &Events,
        controls: &mut mpsc::Receiver<Control>,
    ) -> TurnEnd {
        if !turn.root.starts_with(&self.config.mount) {
            let (root, mount) = (turn.root.display(), self.config.mount.display());
            let why = format!("the state folder {root} is not on the shared volume at {mount}");
            return TurnEnd::NotStarted { why: why.into() };
        }
        let folder = Folder::new(&turn.root, &turn.name);
        if let Err(error) = folder.give(&turn.spec) {
            let why = format!("{}: {error}", folder.path().display());
            return TurnEnd::NotStarted { why: why.into() };
        }
        let mut following = Following::new(turn, folder, events);
        if let Some(end) = self.create(turn, &mut following).await {
            return end;
        }
        let (mut look, mut ask) = (interval(LOOK), interval(ASK));
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if let Some(end) = following.look().await {
                        return end;
                    }
                }
                Some(control) = controls.recv() => {
                    if let Err(error) = following.folder.control(&control) {
                        following.say(format!("it could not be told: {error}")).await;
                    }
                }
                _ = ask.tick() => {
                    let stands = self.stands(&turn.name).await;
                    if let Some(end) = following.stands(stands, &self.config).await {
                        self.delete(&turn.name).await;
                        return end;
                    }
                }
            }
        }
    }

    /// Asks for the Job until it is there; the cluster may be away for as long as the turn may take.
    async fn create(&self, turn: &Turn, following: &mut Following<'_>) -> Option<TurnEnd> {
        let until = Instant::now() + turn.limit;
        let mut pause = Duration::from_secs(1);
        loop {
            match self.ask(turn).await {
                Asked::There => return None,
                Asked::Refused(why) => {
                    let why = format!("the cluster refuses the Job {}: {why}", turn.name);
                    return Some(TurnEnd::NotStarted { why: why.into() });
                }
                Asked::Again(why) if Instant::now() >= until => {
                    let why = format!("the cluster can't be reached: {why}");
                    return Some(TurnEnd::NotStarted { why: why.into() });
                }
                Asked::Again(why) => {
                    following
                        .say(format!("the cluster can't be reached ({why}); asks again"))
                        .await;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    async fn delete(&self, name: &str) {
        let Ok(api) = self.api().await else { return };
        // Gone already is as good; what stays ends by its own deadline.
        let _ = timeout(CALL, api.delete(name, &DeleteParams::background())).await;
    }
}

/// One turn, as far as it was heard of.
struct Following<'a> {
    turn: &'a Turn,
    folder: Folder,
    events: &'a Events,
    news: super::folder::Lines<Told>,
    began: Instant,
    begun: bool,
    /// Since when its Job is over, and how.
    over: Option<(Instant, String)>,
    said: String,
}

impl<'a> Following<'a> {
    fn new(turn: &'a Turn, folder: Folder, events: &'a Events) -> Self {
        let news = folder.news();
        let (began, said) = (Instant::now(), String::new());
        Self { turn, folder, events, news, began, begun: false, over: None, said }
    }

    /// A remark, once as long as it stays the same.
    async fn say(&mut self, text: String) {
        if self.said != text {
            self.said.clone_from(&text);
            // Nobody listens any more where everything ends.
            let _ = self.events.send(AgentEvent::Notice { text: text.into() }).await;
        }
    }

    /// Takes what is new in the shared folder; the end where it is told.
    async fn look(&mut self) -> Option<TurnEnd> {
        let lines = match self.news.next(LINES) {
            Ok(lines) => lines,
            Err(error) => {
                self.say(format!("the shared folder can't be read ({error}); tries again")).await;
                return None;
            }
        };
        if lines.is_empty() {
            return match &self.over {
                Some((since, why)) if since.elapsed() > SHARED => {
                    Some(TurnEnd::Crashed { why: why.clone().into() })
                }
                _ => None,
            };
        }
        self.begun = true;
        for line in lines {
            match line {
                Told::Begun { .. } => {}
                Told::Event(event) => {
                    // Nobody listens any more where everything ends.
                    let _ = self.events.send(event).await;
                }
                Told::End(end) => return Some(end),
            }
        }
        if let Err(error) = self.folder.taken(&self.news) {
            tracing::warn!(turn = self.turn.name, %error, "events may be told twice");
        }
        None
    }

    /// Takes how the Job stands; an end where there is nothing more to wait for.
    async fn stands(
        &mut self,
        stands: Result<JobState, String>,
        config: &KubernetesJobsConfig,
    ) -> Option<TurnEnd> {
        let over = |why: &str| Some((Instant::now(), format!("the Job {why}")));
        match stands {
            Err(why) => {
                self.say(format!("the cluster can't be read ({why}); the Job goes on")).await;
            }
            Ok(JobState::Running | JobState::Ending) => {}
            Ok(JobState::Suspended) => {
                self.say("it waits in the cluster's queue".into()).await;
                self.began = Instant::now();
            }
            Ok(_) if self.over.is_some() => {}
            Ok(JobState::Succeeded) => self.over = over("ended and its worker told no end"),
            Ok(JobState::Failed(reason)) => self.over = over(&format!("failed: {reason}")),
            Ok(JobState::Lost) => self.over = over("was deleted before it ended"),
        }
        let pending = Duration::from_secs(60 * config.pending_minutes);
        if !self.begun && self.over.is_none() && self.began.elapsed() > pending {
            let why = format!("the Job has not begun in {} min", config.pending_minutes);
            return Some(TurnEnd::Crashed { why: why.into() });
        }
        None
    }
}

impl Executor for Jobs {
    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async {
            let list = async {
                let all = self.api().await?.list(&ListParams::default().limit(1)).await;
                all.map_err(|error| clean_line(&error.to_string()))
            };
            let listed = timeout(CALL, list).await;
            listed.map_err(|_| format!("no answer in {} s", CALL.as_secs()))??;
            Ok(format!("Jobs of {} can be read", self.config.namespace))
        })
    }

    fn turn<'a>(
        &'a self,
        turn: &'a Turn,
        events: &'a Events,
        controls: &'a mut mpsc::Receiver<Control>,
    ) -> BoxFuture<'a, TurnEnd> {
        Box::pin(self.follow(turn, events, controls))
    }

    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if !super::kept(root, run) {
                return;
            }
            let of_run = ListParams::default().labels(&format!("{RUN}={run}"));
            let gone = async {
                let api = self.api().await?;
                let jobs = api.list(&of_run).await.map_err(|error| error.to_string())?;
                for name in jobs.items.into_iter().filter_map(|job| job.metadata.name) {
                    let deleted = api.delete(&name, &DeleteParams::background()).await;
                    deleted.map_err(|error| error.to_string())?;
                }
                Ok::<(), String>(())
            };
            match timeout(CALL, gone).await {
                Ok(Ok(())) => super::take_away(root, run),
                // It ends by its deadline all the same.
                Ok(Err(why)) => tracing::warn!(run, why, "its Jobs could not be deleted"),
                Err(_) => tracing::warn!(run, "its Jobs could not be deleted in time"),
            }
        })
    }
}
