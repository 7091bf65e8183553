//! Kubernetes objects against the types of the API, which `k8s-openapi` generates from the official
//! OpenAPI document. A type drops a field that it doesn't have, and adds a required one: so an object that
//! comes out of its type as it went in has only fields that the API has, with their types, and all that
//! are required.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The differences between a manifest and the type of its kind.
pub fn differences(object: &Value) -> Vec<String> {
    let of = |field: &str| object[field].as_str().unwrap_or_default();
    match (of("apiVersion"), of("kind")) {
        ("v1", "Namespace") => differences_of::<Namespace>(object),
        ("v1", "PersistentVolumeClaim") => differences_of::<PersistentVolumeClaim>(object),
        ("v1", "Service") => differences_of::<Service>(object),
        ("v1", "ServiceAccount") => differences_of::<ServiceAccount>(object),
        ("apps/v1", "Deployment") => differences_of::<Deployment>(object),
        ("apps/v1", "StatefulSet") => differences_of::<StatefulSet>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => differences_of::<NetworkPolicy>(object),
        ("policy/v1", "PodDisruptionBudget") => differences_of::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => differences_of::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => differences_of::<RoleBinding>(object),
        ("scheduling.k8s.io/v1", "PriorityClass") => differences_of::<PriorityClass>(object),
        (version, kind) => vec![format!("{version} {kind} is no kind that this table knows")],
    }
}

/// The differences between an object and one type.
pub fn differences_of<T: Serialize + DeserializeOwned>(object: &Value) -> Vec<String> {
    let typed: T = match serde_json::from_value(object.clone()) {
        Ok(typed) => typed,
        Err(error) => return vec![error.to_string()],
    };
    let mut found = Vec::new();
    compare("", object, &serde_json::to_value(typed).unwrap(), &mut found);
    found
}

fn compare(path: &str, given: &Value, kept: &Value, found: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    Some(after) => compare(&format!("{path}/{name}"), value, after, found),
                    None => found.push(format!("{path}/{name} is no field of the API")),
                }
            }
            for name in after.keys().filter(|name| !before.contains_key(*name)) {
                // The template of a claim may leave its kind out.
                if !["apiVersion", "kind"].contains(&name.as_str()) {
                    found.push(format!("{path}/{name} is required"));
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}/{at}"), before, after, found);
            }
        }
        _ if given == kept => {}
        _ => found.push(format!("{path} is {given}, and the API reads {kept}")),
    }
}
