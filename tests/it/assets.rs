//! Files shipped for deployments: configurations load, and manifests grant least rights.

use std::path::{Path, PathBuf};

use afk::config::Config;

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

#[test]
fn shipped_roles_share_no_credentials() {
    let load = |name: &str| Config::load(&asset(name), &|_| None).unwrap();
    let (pipeline, breakglass) = (load("roles/pipeline.toml"), load("roles/breakglass.toml"));
    for config in [&pipeline, &breakglass] {
        assert!(config.kill_switch);
    }
    assert!(pipeline.breakglass.is_none() && pipeline.service.is_some());
    assert!(breakglass.breakglass.is_some() && breakglass.allowlist.is_empty());
    assert!(breakglass.agents.is_empty() && breakglass.github.is_none());
    assert!(breakglass.service.is_none() && !breakglass.http.enabled);
    // The commented-out part loads as well.
    let text = std::fs::read_to_string(asset("roles/pipeline.toml")).unwrap();
    let cluster = text.split("# In a cluster:\n").nth(1).unwrap().replace("# ", "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("afk.toml");
    std::fs::write(&path, format!("{text}\n{cluster}")).unwrap();
    let config = Config::load(&path, &|_| None).unwrap();
    assert!(config.leader.is_some() && config.executors.contains_key("farm"));
}

#[test]
fn cluster_manifests_grant_least_rights() {
    let mut rights = Vec::new();
    for name in ["kubernetes/base/afk.yaml", "kubernetes/base/read-only.yaml"] {
        let text = std::fs::read_to_string(asset(name)).unwrap();
        assert!(!text.contains("ClusterRole") && !text.contains("\"*\""), "{name}");
        let mut resources = "";
        for line in text.lines().map(str::trim) {
            resources = line.strip_prefix("resources: [").unwrap_or(resources);
            if let Some(verbs) = line.strip_prefix("verbs: ") {
                rights.push(format!("{} {verbs}", resources.trim_end_matches(']')));
            }
        }
    }
    let writes: Vec<&String> = rights
        .iter()
        .filter(|r| ["create", "update", "delete", "patch"].iter().any(|v| r.contains(v)))
        .collect();
    assert_eq!(
        writes,
        [
            r#""jobs" ["get", "list", "create", "delete"]"#,
            r#""leases" ["get", "update"]"#,
            r#""leases" ["create"]"#,
        ]
    );
    assert!(
        rights.len() > 6 && !rights.iter().any(|right| right.contains("secrets")),
        "{rights:?}"
    );
}

#[test]
fn systemd_units_name_only_shipped_files() {
    for name in ["user/afk", "system/afk-pipeline", "system/afk-breakglass"] {
        let text = std::fs::read_to_string(asset(&format!("systemd/{name}.service"))).unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(start.contains("/afk ") && start.ends_with(" up"), "{start}");
        assert!(text.contains("LimitCORE=0") && text.contains("[Install]"), "{name}");
    }
    let breakglass =
        std::fs::read_to_string(asset("systemd/system/afk-breakglass.service")).unwrap();
    assert!(!breakglass.contains("After=") && !breakglass.contains("Wants="));
}

/// A package names files that are there, or that docs/operate.md makes before it.
#[test]
fn package_names_only_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let metadata = manifest["package"]["metadata"].as_table().unwrap();
    assert!(metadata["binstall"]["pkg-url"].as_str().unwrap().contains("{ target }"));
    let page = std::fs::read_to_string(root.join("docs/operate.md")).unwrap();
    let assets = metadata["deb"]["assets"].as_array().unwrap();
    assert!(assets.len() > 8, "{assets:?}");
    for asset in assets {
        let path = asset[0].as_str().unwrap();
        if path.starts_with("target/") {
            let made = path.trim_end_matches("/*.1");
            assert!(
                page.contains(made) || made.starts_with("target/release/"),
                "nothing makes {path}"
            );
            continue;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let ending = name.trim_start_matches('*');
        let mut files = std::fs::read_dir(root.join(folder)).unwrap().flatten();
        let is_there = files.any(|file| {
            let file = file.file_name().to_string_lossy().into_owned();
            if name.starts_with('*') { file.ends_with(ending) } else { file == name }
        });
        assert!(is_there, "{path} matches nothing");
    }
}

/// The breakglass role runs although it has no tracker to read.
#[tokio::test(flavor = "multi_thread")]
async fn breakglass_role_runs_without_a_tracker() {
    let state = tempfile::tempdir().unwrap();
    let config = Config::load(&asset("roles/breakglass.toml"), &|_| None).unwrap();
    let started =
        afk::runtime::Runtime::start(config, state.path(), crate::support::AFK.into(), None);
    started.await.unwrap().stop().await;
}
