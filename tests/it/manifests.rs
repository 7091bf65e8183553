//! What a cluster's API server would refuse in the shipped manifests: fields and types that the API doesn't
//! have, required fields that are missing, selectors that don't fit, and names that nothing has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api_types::differences;
use crate::support::manifests::manifests;

/// The objects that a cluster gets: neither patches nor the files of kustomize itself.
fn objects() -> Vec<Value> {
    let all = manifests().into_iter().flat_map(|(_, documents)| documents);
    all.filter(|object| object["$patch"].is_null() && object["kind"] != "Kustomization").collect()
}

#[test]
fn shipped_objects_have_the_types_of_the_api() {
    let objects = objects();
    assert!(objects.len() >= 20, "{} objects", objects.len());
    for object in objects {
        assert_eq!(differences(&object), Vec::<String>::new(), "{object:#}");
    }
}

fn texts<'v>(list: &'v Value, field: &str) -> BTreeSet<&'v str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[field].as_str()).collect()
}

/// The broken rules of an object with pods.
fn broken_rules(object: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let template = &object["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let selector = object["spec"]["selector"]["matchLabels"].as_object();
    match selector {
        Some(wanted) if !wanted.is_empty() => {
            for (name, value) in wanted.iter().filter(|(name, value)| labels[name] != **value) {
                broken.push(format!("the selector {name}={value} selects no pod of the template"));
            }
        }
        _ => broken.push("there is no selector".into()),
    }
    let pod = &template["spec"];
    let mut volumes = texts(&pod["volumes"], "name");
    let claims = object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    volumes.extend(claims.filter_map(|claim| claim["metadata"]["name"].as_str()));
    for container in pod["containers"].as_array().into_iter().flatten() {
        for mount in texts(&container["volumeMounts"], "name") {
            if !volumes.contains(mount) {
                broken.push(format!("there is no volume {mount}"));
            }
        }
        let ports = texts(&container["ports"], "name");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let port = container[probe]["httpGet"]["port"].as_str();
            if let Some(port) = port.filter(|port| !ports.contains(port)) {
                broken.push(format!("{probe} goes to {port}, which is no port"));
            }
        }
        for (name, request) in container["resources"]["requests"].as_object().into_iter().flatten()
        {
            let limit = &container["resources"]["limits"][name];
            if let (Some(request), Some(limit)) = (mebibytes(request), mebibytes(limit))
                && request > limit
            {
                broken.push(format!("{name} requests more than its limit"));
            }
        }
    }
    broken
}

fn mebibytes(quantity: &Value) -> Option<u64> {
    let text = quantity.as_str()?;
    let (number, unit) = text.split_at(text.len().checked_sub(2)?);
    let factor = match unit {
        "Mi" => 1,
        "Gi" => 1024,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * factor)
}

#[test]
fn shipped_pods_fit_their_selectors_volumes_and_ports() {
    let objects = objects();
    let with_pods: Vec<&Value> =
        objects.iter().filter(|object| object["spec"]["template"].is_object()).collect();
    assert_eq!(with_pods.len(), 2);
    for object in with_pods {
        assert_eq!(broken_rules(object), Vec::<String>::new(), "{object:#}");
    }
}

#[test]
fn shipped_objects_refer_to_objects_that_exist() {
    let objects = objects();
    let has = |kind: &str, namespace: &Value, name: &Value| {
        objects.iter().any(|object| {
            object["kind"] == kind
                && object["metadata"]["name"] == *name
                && object["metadata"]["namespace"] == *namespace
        })
    };
    for object in &objects {
        let namespace = &object["metadata"]["namespace"];
        if object["kind"] == "RoleBinding" {
            assert!(has("Role", namespace, &object["roleRef"]["name"]), "{object}");
            for subject in object["subjects"].as_array().unwrap() {
                let account = has("ServiceAccount", &subject["namespace"], &subject["name"]);
                assert!(account, "{subject}");
            }
        }
        let pod = &object["spec"]["template"]["spec"];
        if pod.is_object() {
            assert!(has("ServiceAccount", namespace, &pod["serviceAccountName"]), "{object}");
            assert!(has("PriorityClass", &Value::Null, &pod["priorityClassName"]), "{object}");
        }
        if object["kind"] == "StatefulSet" {
            assert!(has("Service", namespace, &object["spec"]["serviceName"]), "{object}");
        }
        if !namespace.is_null() && namespace != "default" {
            assert!(has("Namespace", &Value::Null, namespace), "{object}");
        }
    }
}

/// The tables themselves find each mistake.
#[test]
fn tables_of_the_api_find_planted_mistakes() {
    let objects = objects();
    let set = objects.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    for (pointer, value, mistake) in [
        ("/spec/replica", json!(1), "/spec/replica is no field of the API"),
        ("/spec/replicas", json!("1"), "invalid type: string \"1\""),
        ("/spec/selector", Value::Null, "/spec/selector is required"),
        ("/kind", json!("Statefulset"), "is no kind that this table knows"),
        ("/apiVersion", json!("apps/v1beta1"), "is no kind that this table knows"),
        ("/spec/template/spec/containers/0/image", json!(["a"]), "invalid type: sequence"),
        ("/spec/template/spec/containers/0/name", Value::Null, "/containers/0/name is required"),
        (
            "/spec/template/spec/securityContext/runAsNonroot",
            json!(true),
            "/securityContext/runAsNonroot is no field of the API",
        ),
        (
            "/spec/template/spec/containers/0/livenessProbe/httpGet/path",
            json!(7),
            "invalid type: integer `7`",
        ),
        ("/spec/selector/matchLabels/app", json!("web"), "selects no pod of the template"),
        ("/spec/template/spec/volumes/0/name", json!("other"), "there is no volume config"),
        ("/spec/template/spec/containers/0/ports/0/name", json!("web"), "which is no port"),
        (
            "/spec/template/spec/containers/0/resources/requests/memory",
            json!("9Gi"),
            "memory requests more than its limit",
        ),
    ] {
        let mut bad = set.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let fields = bad.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            fields.remove(name).unwrap();
        } else {
            fields.insert(name.to_owned(), value);
        }
        let found = [differences(&bad), broken_rules(&bad)].concat();
        let is_found = found.iter().any(|found| found.contains(mistake));
        assert!(is_found, "{pointer}: {found:?}");
    }
}
