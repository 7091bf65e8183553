//! The record of a rollout: facts of the proof chain, and after a failure the pods, their events and
//! the ends of their logs.

use crate::core::model::verdict::FactKind;
use kube::Api;
use kube::api::{DynamicObject, ListParams, LogParams};
use serde_json::Value;
use tokio::time::timeout;

use super::observation::Observation;
use super::{CALL, Rollout};
use crate::cluster::reason;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::Fact;
use crate::core::tables::pod;
use crate::deploy::objects;

/// The lines of a pod's log that are kept, from its end.
const LINES: i64 = 60;
/// The pods whose logs are kept.
const PODS: usize = 3;
/// The events that are kept, the newest ones.
const EVENTS: usize = 20;

impl Rollout<'_> {
    /// The generation, the images, the digests that run, and the annotations that name a cause.
    pub(super) fn facts(&self, seen: &Observation) -> Vec<Fact> {
        let Some(object) = &seen.workload else { return Vec::new() };
        let metadata = &object["metadata"];
        let target = self.target.summary();
        let generation = metadata["generation"].as_i64().unwrap_or_default();
        let mut facts =
            vec![Fact::new(FactKind::Rollout, format!("{target} generation {generation}"))];
        for objects::ImageOf { name, image, .. } in objects::images(&object["spec"]["template"]) {
            facts.push(Fact::new(FactKind::Image, format!("{target}/{name} {image}")));
        }
        let mut digests: Vec<(String, String)> =
            seen.pods.iter().flat_map(|(object, _)| objects::digests(object)).collect();
        digests.sort();
        digests.dedup();
        for (name, digest) in digests {
            facts.push(Fact::new(FactKind::Digest, format!("{target}/{name} {digest}")));
        }
        let template = &object["spec"]["template"]["metadata"]["annotations"];
        for (annotations, name) in [
            (template, "keel.sh/update-time"),
            (&metadata["annotations"], "keel.sh/policy"),
            (&metadata["annotations"], "kubernetes.io/change-cause"),
        ] {
            if let Some(value) = annotations[name].as_str() {
                facts.push(Fact::new(FactKind::Annotation(name.into()), value));
            }
        }
        facts
    }

    /// The evidence of a failed rollout; a part that can't be read says so in its place.
    pub(super) async fn evidence(&self, pods: &[(Value, pod::Pod)]) -> Untrusted {
        let mut out = String::new();
        for (_, pod) in pods {
            out.push_str(&format!("pod {} {} {:?}\n", pod.name, pod.phase, pod::state(pod)));
        }
        out.push_str(&self.events().await);
        let failing = |pod: &pod::Pod| !matches!(pod::state(pod), pod::PodState::Fine);
        for (_, pod) in pods.iter().filter(|(_, pod)| failing(pod)).take(PODS) {
            for container in &pod.containers {
                out.push_str(&format!("== {}/{}\n", pod.name, container.name));
                out.push_str(&self.log(pod, container).await);
            }
        }
        out.into()
    }

    /// The newest events about the workload and its pods, a line each.
    async fn events(&self) -> String {
        let events = self.api("", "Event");
        let name = self.name();
        match timeout(CALL, events.list(&ListParams::default().limit(500))).await {
            Ok(Ok(all)) => {
                let concerns = |event: &&DynamicObject| {
                    let about = event.data["involvedObject"]["name"].as_str().unwrap_or_default();
                    about == name || about.starts_with(&format!("{name}-"))
                };
                let lines: Vec<String> =
                    all.items.iter().filter(concerns).map(event_line).collect();
                lines[lines.len().saturating_sub(EVENTS)..].concat()
            }
            Ok(Err(error)) => format!("(events can't be read: {})\n", reason(&error)),
            Err(_) => "(events can't be read in time)\n".into(),
        }
    }

    /// The end of a container's log, of its previous life where it restarted.
    async fn log(&self, pod: &pod::Pod, container: &pod::Container) -> String {
        let logs: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &self.target.namespace);
        let params = LogParams {
            container: Some(container.name.clone()),
            previous: container.restarts > 0,
            tail_lines: Some(LINES),
            ..LogParams::default()
        };
        match timeout(CALL, logs.logs(&pod.name, &params)).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("(its log can't be read: {})\n", reason(&error)),
            Err(_) => "(its log can't be read in time)\n".into(),
        }
    }
}

fn event_line(event: &DynamicObject) -> String {
    let data = &event.data;
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    let about = data["involvedObject"]["name"].as_str().unwrap_or_default();
    format!("event {} {about}: {} {}\n", text("type"), text("reason"), text("message"))
}
