//! Which of several afk on one journal leads: a Kubernetes Lease. The others follow and change
//! nothing; the number of the Lease's transitions is the leader's term, and the journal refuses
//! whoever has an older one.

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

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(5);

/// A Lease that this process holds.
#[derive(Debug)]
pub struct Leadership {
    /// Which term: it grows with each leader.
    pub term: u64,
    seat: Arc<Seat>,
    lost: CancellationToken,
    renews: JoinHandle<()>,
}

/// The Lease, and who we are.
#[derive(Debug)]
struct Seat {
    config: LeaderConfig,
    cluster: KubernetesConfig,
    identity: String,
}

/// What a look at the Lease led to.
enum Look {
    Ours(u64),
    /// Somebody leads, or somebody was quicker; with what they last wrote.
    Theirs {
        who: String,
        mark: String,
    },
}

impl Seat {
    /// The Leases of its namespace, that namespace, and its name.
    async fn api(&self) -> Result<(Api<Lease>, &str, &str), String> {
        let (namespace, name) =
            self.config.lease.split_once('/').ok_or("leader.lease is no namespace/name")?;
        // A new one each time: a connection that died unheard must not cost the lead.
        let client = cluster::client(&self.cluster, self.config.context.as_deref()).await?;
        Ok((Api::namespaced(client, namespace), namespace, name))
    }

    /// Takes the Lease where nobody has it or `stale` is what its holder last wrote. The term is
    /// over `floor`.
    async fn take(&self, stale: Option<&str>, floor: u64) -> Result<Look, String> {
        let (api, namespace, name) = self.api().await?;
        let tell = |error: kube::Error| clean_line(&error.to_string());
        let found = timeout(CALL, api.get_opt(name)).await.map_err(|_| "no answer".to_owned())?;
        let found = found.map_err(tell)?;
        let known = serde_json::to_value(&found).unwrap_or(Value::Null);
        let spec = &known["spec"];
        let who = spec["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let mark = format!("{who} {}", spec["renewTime"].as_str().unwrap_or_default());
        if !who.is_empty() && who != self.identity && stale != Some(&mark) {
            return Ok(Look::Theirs { who, mark });
        }
        let before = spec["leaseTransitions"].as_u64().unwrap_or(0).max(floor);
        let term = if who == self.identity { before } else { before + 1 };
        let now = format!("{:.6}", jiff::Timestamp::now());
        let acquired = if who == self.identity { spec["acquireTime"].clone() } else { json!(now) };
        let mut metadata = json!({"name": name, "namespace": namespace});
        if found.is_some() {
            // The server refuses it where somebody was quicker.
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
            Ok(_) => Ok(Look::Ours(term)),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Look::Theirs { who: "somebody who was quicker".into(), mark: String::new() })
            }
            Err(error) => Err(tell(error)),
        }
    }

    /// Between two looks.
    fn pause(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.seconds) * 1000 / 4)
    }

    /// Says that nobody holds it, so that the next one need not wait.
    async fn release(&self) {
        let Ok((api, _, name)) = self.api().await else { return };
        let Ok(Ok(Some(found))) = timeout(CALL, api.get_opt(name)).await else { return };
        let mut lease = serde_json::to_value(found).unwrap_or(Value::Null);
        if lease["spec"]["holderIdentity"] == self.identity.as_str() {
            lease["spec"]["holderIdentity"] = json!("");
            if let Ok(lease) = serde_json::from_value::<Lease>(lease) {
                // Who comes next waits for its time instead.
                let _ = timeout(CALL, api.replace(name, &PostParams::default(), &lease)).await;
            }
        }
    }
}

impl Leadership {
    /// Waits until this process leads. `floor` is the newest term of the journal; `follows` is told
    /// who leads meanwhile, or why nobody can say.
    pub async fn take(
        config: LeaderConfig,
        cluster: KubernetesConfig,
        floor: impl Fn() -> u64,
        mut follows: impl FnMut(&str),
    ) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let began = jiff::Timestamp::now().as_microsecond();
        let identity = format!("{}-{}-{began}", clean_line(&host), std::process::id());
        let seat = Arc::new(Seat { config, cluster, identity });
        // By our own clock alone: since when the holder has written the same.
        let mut seen: Option<(String, Instant)> = None;
        let mut told = String::new();
        loop {
            let limit = Duration::from_secs(seat.config.seconds.into());
            let stale = seen.as_ref().filter(|(_, since)| since.elapsed() > limit);
            let stale = stale.map(|(mark, _)| mark.clone());
            let standing = match seat.take(stale.as_deref(), floor()).await {
                Ok(Look::Ours(term)) => return Self::hold(seat, term),
                Ok(Look::Theirs { who, mark }) => {
                    if seen.as_ref().is_none_or(|(known, _)| *known != mark) {
                        seen = Some((mark, Instant::now()));
                    }
                    format!("{} leads", clean_line(&who))
                }
                Err(why) => format!("the Lease can't be had: {why}"),
            };
            if standing != told {
                follows(&standing);
                told = standing;
            }
            sleep(seat.pause()).await;
        }
    }

    fn hold(seat: Arc<Seat>, term: u64) -> Self {
        let lost = CancellationToken::new();
        let (renewed, gone) = (seat.clone(), lost.clone());
        let renews = tokio::spawn(async move {
            let limit = Duration::from_secs(renewed.config.seconds.into());
            let mut last = Instant::now();
            loop {
                sleep(renewed.pause()).await;
                // After a stop of the whole process as well: somebody else may lead already.
                if last.elapsed() >= limit {
                    break;
                }
                let left = limit.saturating_sub(last.elapsed());
                match timeout(left, renewed.take(None, term)).await {
                    Ok(Ok(Look::Ours(_))) => last = Instant::now(),
                    Ok(Ok(Look::Theirs { .. })) | Err(_) => break,
                    Ok(Err(why)) => tracing::warn!(why, "the Lease was not renewed"),
                }
                if last.elapsed() >= limit * 2 / 3 {
                    break;
                }
            }
            gone.cancel();
        });
        Self { term, seat, lost, renews }
    }

    /// Resolves when somebody else may lead.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Somebody else may lead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Gives the Lease back.
    pub async fn release(self) {
        self.renews.abort();
        self.seat.release().await;
    }
}
