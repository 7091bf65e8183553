//! The survey of a deploy's workload as it is configured and as it stands in the cluster: what would keep
//! every rollout of it from becoming green, or from proving anything. `afk doctor` prints it.

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::timeout;

use super::kubernetes::workload_api;
use super::objects;
use crate::cluster::reason;
use crate::config::repository::{RolloutTarget, WorkloadKind};
use crate::core::model::plural::plural;

/// The time limit of one read.
const READ: Duration = Duration::from_secs(20);

/// Reads the workload of a target and lists its obstacles. None where its name depends on the commit, so
/// that nothing can be read before one is deployed.
///
/// # Errors
/// A line for the operator: the API server can't be reached, or refuses.
pub async fn survey(
    client: &Client,
    target: &RolloutTarget,
) -> Result<Option<Vec<String>>, String> {
    if target.name.contains("{sha8}") {
        return Ok(None);
    }
    let api = workload_api(client, target);
    let found = timeout(READ, api.get_opt(&target.name)).await;
    let found = found.map_err(|_| format!("no answer within {} s", READ.as_secs()))?;
    let found = found.map_err(|error| reason(&error))?;
    let object = found.map(|found| serde_json::to_value(found).unwrap_or_default());
    Ok(Some(obstacles(target, object.as_ref())))
}

/// What keeps a rollout of the workload from becoming green, a line each.
fn obstacles(target: &RolloutTarget, object: Option<&Value>) -> Vec<String> {
    let Some(object) = object else { return vec!["it does not exist".into()] };
    let mut found = Vec::new();
    let images = objects::images(&object["spec"]["template"]);
    let apps = images.iter().filter(|image| !image.init).count();
    match &target.container {
        Some(name) => match images.iter().find(|image| image.name == *name) {
            None => found.push(format!("it has no container {name}")),
            Some(image) if image.init => found
                .push(format!("{name} is an init container, which proves nothing about the app")),
            Some(_) => {}
        },
        None if apps > 1 => found.push(format!(
            "it has {}, and all need the commit's image: name the app's with `container`",
            plural(apps, "container")
        )),
        None => {}
    }
    match target.kind {
        WorkloadKind::StatefulSet => {
            let set = objects::stateful_set(object);
            if set.on_delete {
                found.push("its update strategy is OnDelete: no rollout ends by itself".into());
            } else if set.partition > 0 {
                let held = plural(set.partition.min(set.wanted), "pod");
                found.push(format!("its partition {} keeps {held} at the old revision", set.partition));
            }
        }
        WorkloadKind::DaemonSet if objects::daemon_set(object).on_delete => {
            found.push("its update strategy is OnDelete: no rollout ends by itself".into());
        }
        WorkloadKind::Deployment if objects::deployment(object, 0).paused => {
            found.push("it is paused".into());
        }
        WorkloadKind::Job => found.push(
            "a Job of this name can only be replaced: put {sha8} into `name`, or have the deploy delete \
             the old one"
                .into(),
        ),
        WorkloadKind::DaemonSet | WorkloadKind::Deployment => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::repository::RepositoryRules;

    fn found(more: &str, spec: &Value) -> Vec<String> {
        let text =
            format!("test = 'x'\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'\n{more}");
        let rules = RepositoryRules::parse(&text).unwrap();
        let template = json!({"spec": {
            "initContainers": [{"name": "migrate", "image": "m:1"}],
            "containers": [{"name": "app", "image": "a:1"}],
        }});
        let mut object = json!({"spec": {"replicas": 3, "template": template}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        obstacles(&rules.deploy.unwrap().kubernetes[0], Some(&object))
    }

    #[test]
    fn each_obstacle_is_named() {
        let none = json!({});
        assert_eq!(found("", &none), Vec::<String>::new());
        assert_eq!(found("container = 'app'", &none), Vec::<String>::new());
        assert_eq!(found("container = 'web'", &none), ["it has no container web"]);
        assert!(found("container = 'migrate'", &none)[0].contains("is an init container"));
        let sidecar = json!({"template": {"spec": {"containers": [
            {"name": "app", "image": "a:1"}, {"name": "proxy", "image": "p:1"},
        ]}}});
        assert!(found("", &sidecar)[0].starts_with("it has 2 containers, and all need"));
        assert_eq!(found("container = 'app'", &sidecar), Vec::<String>::new());
        let partition = json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}});
        let says = found("kind = 'statefulset'", &partition);
        assert_eq!(says, ["its partition 2 keeps 2 pods at the old revision"]);
        let by_hand = json!({"updateStrategy": {"type": "OnDelete"}});
        for kind in ["statefulset", "daemonset"] {
            let says = found(&format!("kind = '{kind}'"), &by_hand);
            assert!(says[0].contains("OnDelete"), "{kind}: {says:?}");
        }
        assert_eq!(found("", &json!({"paused": true})), ["it is paused"]);
        assert!(found("kind = 'job'", &none)[0].contains("can only be replaced"));
    }
}
