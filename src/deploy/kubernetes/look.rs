//! A look: the workload, its `ReplicaSets` and its pods, read from the API server right now. A watch that
//! is silent can't be told from one whose server is away, so that the soak counts only on looks.

use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use tokio::time::timeout;

use super::observation::Objects;
use super::{CALL, Rollout, selector, workload_api};
use crate::cluster::reason;
use crate::config::repository::WorkloadKind;

/// The pods and sets that one look reads at most.
const OBJECTS: u32 = 500;

/// The objects that one look found.
#[derive(Default)]
pub(super) struct LookedUp {
    workload: Option<Value>,
    sets: Vec<Value>,
    pods: Vec<Value>,
}

impl LookedUp {
    pub(super) fn objects(&self) -> Objects<'_> {
        Objects {
            workload: self.workload.as_ref(),
            sets: self.sets.iter().collect(),
            pods: self.pods.iter().collect(),
        }
    }
}

impl Rollout<'_> {
    /// Reads the objects of the rollout. An error is a line for the operator.
    pub(super) async fn look(&self) -> Result<LookedUp, String> {
        timeout(CALL, self.read())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", CALL.as_secs())))
    }

    async fn read(&self) -> Result<LookedUp, String> {
        let found = workload_api(&self.client, self.target).get_opt(&self.name()).await;
        let Some(workload) = found.map_err(|error| reason(&error))? else {
            return Ok(LookedUp::default());
        };
        let workload = serde_json::to_value(workload).unwrap_or_default();
        let (mut sets, mut pods) = (Vec::new(), Vec::new());
        if let Some(selector) = selector(&workload) {
            if self.target.kind == WorkloadKind::Deployment {
                sets = list(&self.api("apps", "ReplicaSet"), &selector).await?;
            }
            pods = list(&self.api("", "Pod"), &selector).await?;
        }
        Ok(LookedUp { workload: Some(workload), sets, pods })
    }
}

async fn list(api: &Api<DynamicObject>, selector: &str) -> Result<Vec<Value>, String> {
    let params = ListParams::default().labels(selector).limit(OBJECTS);
    let found = api.list(&params).await.map_err(|error| reason(&error))?;
    Ok(found.items.into_iter().map(|item| serde_json::to_value(item).unwrap_or_default()).collect())
}
