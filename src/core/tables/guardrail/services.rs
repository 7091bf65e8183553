//! Commands that write to a store of secrets or delete volumes.

use crate::model::guardrail::Guardrail;

/// The guardrail that a command would break. `plain` are the arguments that are no options.
pub(super) fn breaks(name: &str, args: &[&str], plain: &[&str]) -> Option<Guardrail> {
    let has = |wanted: &[&str]| args.iter().any(|arg| wanted.contains(arg));
    let writes_secret = match name {
        "kubectl" | "oc" | "k" => return kubectl_breaks(plain),
        "vault" | "bao" => {
            let writes = ["put", "patch", "write", "delete", "destroy", "undelete", "rollback"];
            plain.iter().any(|arg| writes.contains(arg))
        }
        "gh" => plain.first() == Some(&"secret") && has(&["set", "delete", "remove"]),
        "aws" => {
            plain.first().is_some_and(|s| matches!(*s, "secretsmanager" | "ssm"))
                && plain.get(1).is_some_and(|verb| {
                    ["put", "create", "update", "delete", "restore", "tag"]
                        .iter()
                        .any(|start| verb.starts_with(start))
                })
        }
        "gcloud" => {
            plain.contains(&"secrets")
                && plain
                    .iter()
                    .any(|v| matches!(*v, "create" | "delete" | "add" | "update" | "destroy"))
        }
        "az" => {
            plain.starts_with(&["keyvault"])
                && plain.iter().any(|v| matches!(*v, "set" | "delete" | "purge" | "import"))
        }
        "op" | "pass" => plain
            .iter()
            .any(|v| matches!(*v, "create" | "edit" | "delete" | "insert" | "rm" | "generate")),
        "curl" | "wget" | "http" => {
            let writes =
                ["-X", "--request", "-d", "--data", "--post-data", "PUT", "POST", "DELETE"];
            args.iter().any(|arg| arg.to_lowercase().contains("x-vault-token"))
                && args.iter().any(|arg| writes.iter().any(|w| arg.starts_with(w)))
        }
        _ => false,
    };
    writes_secret.then_some(Guardrail::SecretStore)
}

/// The guardrail that a kubectl command would break, judged by its verb and resource kinds.
fn kubectl_breaks(plain: &[&str]) -> Option<Guardrail> {
    let named = |names: &[&str]| {
        plain.iter().any(|arg| {
            arg.split([',', '/']).any(|part| names.contains(&part.to_lowercase().as_str()))
        })
    };
    let writes =
        ["delete", "create", "apply", "edit", "patch", "replace", "annotate", "label", "set"];
    let verb = plain.iter().find(|arg| writes.contains(arg))?;
    let volumes = [
        "pv",
        "pvc",
        "pvs",
        "pvcs",
        "persistentvolume",
        "persistentvolumes",
        "persistentvolumeclaim",
        "persistentvolumeclaims",
        "ns",
        "namespace",
        "namespaces",
        "volumesnapshot",
        "volumesnapshots",
        "storageclass",
        "storageclasses",
    ];
    if *verb == "delete" && (named(&volumes) || named(&["all"])) {
        return Some(Guardrail::DeleteVolume);
    }
    named(&[
        "secret",
        "secrets",
        "externalsecret",
        "externalsecrets",
        "sealedsecret",
        "sealedsecrets",
    ])
    .then_some(Guardrail::SecretStore)
}
