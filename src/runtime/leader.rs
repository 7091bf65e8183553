//! Leader election among several afk on one journal, by a Kubernetes Lease.
//!
//! `cli::up` waits in [`Leadership::take`] while a [follower](super::follower) serves its clients,
//! then starts the runtime and ends it when the leadership is lost. The Lease counts its
//! transitions; that number is the leader's term, and the journal refuses writes of an older term.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster;
use crate::config::leader::LeaderConfig;
use crate::config::services::KubernetesConfig;
use crate::core::model::untrusted::clean_line;

/// The longest that one call of the API may take.
const CALL: Duration = Duration::from_secs(5);

/// A Lease that this process holds.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// The term, which grows with each new leader.
    pub(crate) term: u64,
    lease: Arc<LeaseClient>,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
}

/// The Lease and the identity under which this process holds it.
#[derive(Debug)]
struct LeaseClient {
    config: LeaderConfig,
    cluster: KubernetesConfig,
    identity: String,
}

/// The result of an attempt to take or renew the Lease.
enum LeaseAttempt {
    /// This process holds it, in this term.
    Held(u64),
    /// Another process holds it. Its last write, `mark`, shows whether it still renews.
    HeldByOther { holder: String, mark: String },
}

impl LeaseClient {
    /// The API of the Lease, its namespace and its name.
    async fn api(&self) -> Result<(Api<Lease>, &str, &str), String> {
        let (namespace, name) = self
            .config
            .lease
            .split_once('/')
            .ok_or("leader.lease is not of the form namespace/name")?;
        // Connect each time: a connection that died unnoticed must not cost the leadership.
        let client = cluster::client(&self.cluster, self.config.context.as_deref()).await?;
        Ok((Api::namespaced(client, namespace), namespace, name))
    }

    /// Takes the Lease if it is free, if this process holds it, or if `stale` is its holder's last
    /// write. The term becomes greater than `floor`.
    async fn take(&self, stale: Option<&str>, floor: u64) -> Result<LeaseAttempt, String> {
        let (api, namespace, name) = self.api().await?;
        let line = |error: kube::Error| cluster::reason(&error);
        let found = timeout(CALL, api.get_opt(name)).await.map_err(|_| "no answer".to_owned())?;
        let found = found.map_err(line)?;
        let known = serde_json::to_value(&found).unwrap_or(Value::Null);
        let spec = &known["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let mark = format!("{holder} {}", spec["renewTime"].as_str().unwrap_or_default());
        if !holder.is_empty() && holder != self.identity && stale != Some(&mark) {
            return Ok(LeaseAttempt::HeldByOther { holder, mark });
        }
        let before = spec["leaseTransitions"].as_u64().unwrap_or(0).max(floor);
        let term = if holder == self.identity { before } else { before + 1 };
        let now = format!("{:.6}", jiff::Timestamp::now());
        let acquired =
            if holder == self.identity { spec["acquireTime"].clone() } else { json!(now) };
        let mut metadata = json!({"name": name, "namespace": namespace});
        if found.is_some() {
            // With the version that was read, the server refuses the write if another came first.
            metadata = known["metadata"].clone();
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.config.seconds,
                "acquireTime": acquired, "renewTime": now, "leaseTransitions": term,
            },
        });
        let lease: Lease = serde_json::from_value(lease).map_err(|error| error.to_string())?;
        let post = PostParams::default();
        let written = if found.is_some() {
            timeout(CALL, api.replace(name, &post, &lease)).await
        } else {
            timeout(CALL, api.create(&post, &lease)).await
        };
        match written.map_err(|_| "no answer".to_owned())? {
            Ok(_) => Ok(LeaseAttempt::Held(term)),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(LeaseAttempt::HeldByOther { holder: "another afk".into(), mark: String::new() })
            }
            Err(error) => Err(line(error)),
        }
    }

    /// The time between two attempts: four in the Lease's duration.
    fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.seconds) * 1000 / 4)
    }

    /// Clears the holder, so that the next leader need not wait until the Lease expires.
    async fn release(&self) {
        let Ok((api, _, name)) = self.api().await else { return };
        let Ok(Ok(Some(found))) = timeout(CALL, api.get_opt(name)).await else { return };
        let mut lease = serde_json::to_value(found).unwrap_or(Value::Null);
        if lease["spec"]["holderIdentity"] == self.identity.as_str() {
            lease["spec"]["holderIdentity"] = json!("");
            if let Ok(lease) = serde_json::from_value::<Lease>(lease) {
                // If this fails, the next leader waits until the Lease expires.
                let _ = timeout(CALL, api.replace(name, &PostParams::default(), &lease)).await;
            }
        }
    }
}

impl Leadership {
    /// Waits until this process leads. `floor` returns the newest term in the journal. `on_change`
    /// receives a description of the leader, or of the error, whenever it changes.
    pub(crate) async fn take(
        config: LeaderConfig,
        cluster: KubernetesConfig,
        floor: impl Fn() -> u64,
        mut on_change: impl FnMut(&str),
    ) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let began = jiff::Timestamp::now().as_microsecond();
        let identity = format!("{}-{}-{began}", clean_line(&host), std::process::id());
        let lease = Arc::new(LeaseClient { config, cluster, identity });
        // The holder's last write, and when this process first saw it. Only our own clock counts.
        let mut seen: Option<(String, Instant)> = None;
        let mut reported = String::new();
        loop {
            let limit = Duration::from_secs(lease.config.seconds.into());
            let stale = seen.as_ref().filter(|(_, since)| since.elapsed() > limit);
            let stale = stale.map(|(mark, _)| mark.clone());
            let standing = match lease.take(stale.as_deref(), floor()).await {
                Ok(LeaseAttempt::Held(term)) => return Self::hold(lease, term),
                Ok(LeaseAttempt::HeldByOther { holder, mark }) => {
                    if seen.as_ref().is_none_or(|(known, _)| *known != mark) {
                        seen = Some((mark, Instant::now()));
                    }
                    format!("{} leads", clean_line(&holder))
                }
                Err(why) => format!("the Lease can't be read: {why}"),
            };
            if standing != reported {
                on_change(&standing);
                reported = standing;
            }
            sleep(lease.interval()).await;
        }
    }

    fn hold(lease: Arc<LeaseClient>, term: u64) -> Self {
        let lost = CancellationToken::new();
        let (renewed, gone) = (lease.clone(), lost.clone());
        let renewal = tokio::spawn(async move {
            let limit = Duration::from_secs(renewed.config.seconds.into());
            let mut last = Instant::now();
            loop {
                sleep(renewed.interval()).await;
                // If the whole process was stopped, another afk may already lead.
                if last.elapsed() >= limit {
                    break;
                }
                let left = limit.saturating_sub(last.elapsed());
                match timeout(left, renewed.take(None, term)).await {
                    Ok(Ok(LeaseAttempt::Held(_))) => last = Instant::now(),
                    Ok(Ok(LeaseAttempt::HeldByOther { .. })) | Err(_) => break,
                    Ok(Err(why)) => tracing::warn!(why, "the Lease was not renewed"),
                }
                if last.elapsed() >= limit * 2 / 3 {
                    break;
                }
            }
            gone.cancel();
        });
        Self { term, lease, lost, renewal }
    }

    /// Resolves when another afk may lead.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether another afk may lead.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Stops renewing and gives the Lease back.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        self.lease.release().await;
    }
}
