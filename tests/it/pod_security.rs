//! The pods of afk pass the restricted profile of the Pod Security Standards: those that it makes,
//! and those of the shipped manifests.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use crate::support::AFK;
use crate::support::api_types::differences_of;
use crate::support::cluster::Cluster;
use crate::support::manifests::manifests;
use crate::support::pod_security::broken_controls;
use crate::support::world::{END, WORK, World, wait_until};

/// The specification of the pod that afk makes for a turn.
async fn made_pod(user: &str) -> Value {
    let cluster = Cluster::start();
    let world = World::new(&format!("{WORK}\n{END}"));
    let (root, kubeconfig) = (world.root().display().to_string(), cluster.kubeconfig(world.root()));
    let section = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[executors.farm]\nkind = 'kubernetes'\nnamespace = 'web'\n\
         image = 'registry/afk:1'\ncommand = ['{AFK}']\nclaim = 'work'\nmount = '{root}'\n{user}\n",
        kubeconfig.display()
    );
    let world = world.with(&section).repo("executor = 'farm'");
    let runtime = world.start().await;
    wait_until("the Job", || !cluster.names("jobs").is_empty()).await;
    let job = cluster.get("jobs", &cluster.names("jobs")[0]).unwrap();
    runtime.stop().await;
    job["spec"]["template"]["spec"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_of_a_turn_passes_the_restricted_profile() {
    let pod = made_pod("user = 1000").await;
    assert_eq!(broken_controls(&pod), Vec::<String>::new(), "{pod:#}");
    assert_eq!(differences_of::<PodSpec>(&pod), Vec::<String>::new(), "{pod:#}");
    // afk asks for more than the profile does.
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    let context = &pod["securityContext"];
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(context[field], 1000, "{field}");
    }
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let home = container["env"].as_array().unwrap().iter().find(|entry| entry["name"] == "HOME");
    let home = home.unwrap()["value"].clone();
    for path in [json!("/tmp"), home] {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap();
        let volumes = pod["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        assert!(volume["emptyDir"].is_object(), "{path} is not private: {volume}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_runs_as_the_user_of_afk_unless_that_is_root() {
    let user = rustix::process::geteuid().as_raw();
    if user != 0 {
        assert_eq!(made_pod("").await["securityContext"]["runAsUser"], user);
        return;
    }
    let cluster = Cluster::start();
    let world = World::new(END);
    let section = format!(
        "[kubernetes]\nkubeconfig = '{}'\n[executors.farm]\nkind = 'kubernetes'\nnamespace = 'web'\n\
         image = 'registry/afk:1'\nclaim = 'work'\nmount = '{}'\n",
        cluster.kubeconfig(world.root()).display(),
        world.root().display()
    );
    let world = world.with(&section).repo("executor = 'farm'");
    world.config();
    let places = world.places();
    let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
    let out = crate::support::afk(&args).output().unwrap();
    let said = crate::support::text(&out.stdout);
    assert!(said.contains("a pod must not run as root") && said.contains("`user`"), "{said}");
}

#[test]
fn shipped_pods_pass_the_restricted_profile() {
    let mut pods = 0;
    let mut namespaces = Vec::new();
    for (_, documents) in manifests() {
        for object in documents {
            if object["kind"] == "Namespace" {
                let labels = &object["metadata"]["labels"];
                assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted", "{object}");
                namespaces.push(object["metadata"]["name"].clone());
            }
            let spec = &object["spec"]["template"]["spec"];
            if !object["$patch"].is_null() {
                continue;
            }
            if spec.is_null() {
                let kinds = ["Pod", "CronJob", "DaemonSet", "StatefulSet", "Deployment", "Job"];
                assert!(!kinds.iter().any(|kind| object["kind"] == *kind), "{object}");
                continue;
            }
            pods += 1;
            assert_eq!(broken_controls(spec), Vec::<String>::new(), "{spec:#}");
            for container in spec["containers"].as_array().unwrap() {
                assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            }
        }
    }
    assert_eq!((pods, namespaces), (2, vec![json!("afk"), json!("afk-agents")]));
}

/// What kustomize would refuse: a file that is missing or that nothing names, a patch without its object.
#[test]
fn kustomizations_name_every_file_and_patch_objects_that_exist() {
    let all = manifests();
    let key = |object: &Value| {
        let of = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {} {name}", of("apiVersion"), of("kind"))
    };
    let objects: Vec<String> = all
        .iter()
        .flat_map(|(_, documents)| documents)
        .filter(|o| o["$patch"].is_null())
        .map(key)
        .collect();
    let in_base = all.iter().filter(|(path, _)| path.parent().unwrap().ends_with("base"));
    let mut ids: Vec<String> = in_base
        .flat_map(|(_, documents)| documents)
        .map(|object| format!("{} {}", key(object), object["metadata"]["namespace"]))
        .collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "kustomize refuses two objects with one name");
    let mut named = Vec::new();
    let mut overlays = 0;
    for (path, documents) in &all {
        if !path.ends_with("kustomization.yaml") {
            continue;
        }
        overlays += 1;
        let folder = path.parent().unwrap();
        named.push(path.clone());
        let list = |field: &str| documents[0][field].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let resources = list("resources");
        let patches = list("patches");
        let patches = patches.iter().map(|patch| text(&patch["path"]));
        let files = list("configMapGenerator");
        let files = files.iter().flat_map(|map| map["files"].as_array().unwrap()).map(text);
        for file in resources.iter().map(text).chain(patches).chain(files) {
            let file = folder.join(file).canonicalize().unwrap();
            assert!(!folder.starts_with(&file), "kustomize refuses a base around its overlay");
            if file.is_dir() {
                assert!(file.join("kustomization.yaml").exists(), "{}", file.display());
            }
            if file.extension().is_some_and(|extension| extension == "toml") {
                let config = afk::config::Config::load(&file, &|_| None).unwrap();
                assert!(config.kill_switch && config.http.enabled, "{}", file.display());
            }
            named.push(file);
        }
    }
    assert_eq!(overlays, 3);
    for (path, documents) in &all {
        assert!(named.contains(&path.canonicalize().unwrap()), "nothing names {}", path.display());
        for patch in documents.iter().filter(|object| !object["$patch"].is_null()) {
            assert!(objects.contains(&key(patch)), "{patch} patches nothing");
        }
    }
}

/// Agents are untrusted: they reach no pod and no node, and nothing reaches them.
#[test]
fn network_policies_keep_agents_apart() {
    let all = manifests();
    let objects: Vec<&Value> = all.iter().flat_map(|(_, documents)| documents).collect();
    let policies = |namespace: &str| -> Vec<&Value> {
        let of = |object: &&&Value| {
            object["kind"] == "NetworkPolicy" && object["metadata"]["namespace"] == namespace
        };
        objects.iter().filter(of).copied().collect()
    };
    for namespace in ["afk", "afk-agents"] {
        let closed = policies(namespace).into_iter().find(|policy| {
            policy["spec"]["podSelector"] == json!({})
                && policy["spec"]["policyTypes"] == json!(["Ingress", "Egress"])
                && policy["spec"]["ingress"].is_null()
                && policy["spec"]["egress"].is_null()
        });
        assert!(closed.is_some(), "{namespace} is open by default");
    }
    for policy in policies("afk-agents") {
        assert!(policy["spec"]["ingress"].is_null(), "{policy}");
        for rule in policy["spec"]["egress"].as_array().into_iter().flatten() {
            let blocks = rule["to"].as_array().expect("agents reach every pod");
            for block in blocks.iter().filter(|block| !block["ipBlock"].is_null()) {
                let except = block["ipBlock"]["except"].as_array().unwrap();
                for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"] {
                    assert!(except.contains(&json!(private)), "{private}: {block}");
                }
            }
        }
    }
}

/// The table itself finds each violation.
#[test]
fn pod_security_table_finds_planted_violations() {
    let good = json!({
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}
        },
        "containers": [{"securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}
        }}],
        "volumes": [{"name": "a", "emptyDir": {}}],
    });
    assert_eq!(broken_controls(&good), Vec::<String>::new());
    for (pointer, value, control) in [
        ("/hostNetwork", json!(true), "Host Namespaces"),
        ("/hostPID", json!(true), "Host Namespaces"),
        ("/hostIPC", json!(true), "Host Namespaces"),
        ("/securityContext/windowsOptions", json!({"hostProcess": true}), "HostProcess"),
        ("/securityContext/runAsNonRoot", json!(false), "Running as Non-root"),
        ("/securityContext/runAsUser", json!(0), "Running as Non-root user"),
        ("/securityContext/seccompProfile/type", json!("Unconfined"), "Seccomp"),
        ("/securityContext/appArmorProfile", json!({"type": "Unconfined"}), "AppArmor"),
        ("/securityContext/seLinuxOptions", json!({"type": "spc_t"}), "SELinux"),
        ("/securityContext/sysctls", json!([{"name": "kernel.msgmax"}]), "Sysctls"),
        ("/volumes/0", json!({"name": "a", "hostPath": {"path": "/"}}), "HostPath Volumes"),
        ("/volumes/0", json!({"name": "a", "nfs": {"server": "x"}}), "Volume Types"),
        ("/containers/0/securityContext/privileged", json!(true), "Privileged Containers"),
        ("/containers/0/securityContext/procMount", json!("Unmasked"), "/proc Mount Type"),
        ("/containers/0/securityContext/runAsNonRoot", json!(false), "Running as Non-root"),
        ("/containers/0/securityContext/runAsUser", json!(0), "Running as Non-root user"),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(true),
            "Privilege Escalation",
        ),
        ("/containers/0/securityContext/capabilities", json!({"drop": ["KILL"]}), "Capabilities"),
        ("/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "Capabilities"),
        ("/containers/0/securityContext/capabilities/add", json!(["CHOWN"]), "Capabilities"),
        ("/containers/0/ports", json!([{"hostPort": 80}]), "Host Ports"),
        ("/containers/0/livenessProbe", json!({"httpGet": {"host": "x"}}), "Host Probes"),
        ("/initContainers", json!([{"name": "a"}]), "Privilege Escalation"),
    ] {
        let mut bad = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match bad.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            parent => parent[name] = value,
        }
        let broken = broken_controls(&bad);
        assert!(broken.iter().any(|found| found.starts_with(control)), "{pointer}: {broken:?}");
    }
}
