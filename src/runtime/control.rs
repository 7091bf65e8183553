//! Control from outside of the file while afk runs: a mounted folder, or a `ConfigMap` over the API.
//!
//! What can't be read stops pickup until it can be: never a guess.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Shell;
use crate::cluster;
use crate::config::control::{NAMES, apply};
use crate::config::{Config, ConfigError};
use crate::core::model::untrusted::clean_line;

/// What control says: values by name, or why it can't be read.
pub(super) type Values = Result<BTreeMap<String, String>, String>;

/// Looks at a folder even where nothing tells of a change.
const LOOK: Duration = Duration::from_secs(30);
/// Changes that come together are taken together.
const SETTLE: Duration = Duration::from_millis(50);

/// A configuration with what control says over it; where that is no good, pickup is stopped.
pub(super) fn over(base: &Config, values: &Values) -> (Config, Option<String>) {
    let stopped = |why: String| {
        let line = format!("control: {why}; nothing is picked up until it can be read");
        (Config { kill_switch: true, ..base.clone() }, Some(clean_line(&line)))
    };
    match values {
        Err(why) => stopped(why.clone()),
        Ok(values) => match laid(base, values) {
            Ok(config) => (config, None),
            Err(error) => stopped(error.to_string()),
        },
    }
}

fn laid(base: &Config, values: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let mut config = base.clone();
    apply(&mut config, &|name| values.get(name).cloned())?;
    config.check()?;
    Ok(config)
}

/// A folder's values; a file that is away says nothing.
pub(super) fn read(folder: &Path) -> Values {
    if !folder.is_dir() {
        return Err(format!("{} is no folder", folder.display()));
    }
    let mut values = BTreeMap::new();
    for name in NAMES {
        match std::fs::read_to_string(folder.join(name)) {
            Ok(text) => {
                values.insert(name.to_owned(), text);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    Ok(values)
}

/// What control says at the start: a `ConfigMap` is not known yet.
pub(super) fn first(config: &Config) -> Values {
    match (&config.control.folder, &config.control.config_map) {
        (Some(folder), _) => read(folder),
        (None, Some(name)) => Err(format!("the ConfigMap {name} is not read yet")),
        (None, None) => Ok(BTreeMap::new()),
    }
}

/// Follows the place that is configured when this is begun.
pub(super) fn follow(shell: &Arc<Shell>, told: watch::Sender<Values>) {
    let control = shell.config().control.clone();
    if let Some(folder) = control.folder {
        tokio::spawn(follow_folder(shell.clone(), folder, told));
    } else if let Some(name) = control.config_map {
        tokio::spawn(follow_config_map(shell.clone(), name, told));
    }
}

fn tell(told: &watch::Sender<Values>, values: Values) {
    told.send_if_modified(|known| {
        let changed = *known != values;
        *known = values;
        changed
    });
}

async fn follow_folder(shell: Arc<Shell>, folder: std::path::PathBuf, told: watch::Sender<Values>) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.try_send(());
        }
    });
    // A mounted ConfigMap is exchanged whole, by a link in its folder.
    let mut watcher = watcher.ok();
    loop {
        let watched = watcher.as_mut().is_some_and(|watcher| {
            watcher.watch(&folder, notify::RecursiveMode::NonRecursive).is_ok()
        });
        tell(&told, read(&folder));
        let look = if watched { LOOK } else { Duration::from_millis(500) };
        tokio::select! {
            Some(()) = changes.recv() => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
            }
            () = sleep(look) => {}
            () = shell.cancel.cancelled() => return,
        }
    }
}

async fn follow_config_map(shell: Arc<Shell>, name: String, told: watch::Sender<Values>) {
    let Some((namespace, map)) = name.split_once('/') else {
        return tell(&told, Err(format!("{name:?} is no namespace/name")));
    };
    let config = shell.config().kubernetes.clone();
    let client = loop {
        match cluster::client(&config, None).await {
            Ok(client) => break client,
            Err(error) => tell(&told, Err(error)),
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shell.cancel.cancelled() => return,
        }
    };
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={map}")).timeout(30);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut found = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shell.cancel.cancelled() => return,
        };
        match event {
            None => return,
            Some(Ok(watcher::Event::Init)) => found = None,
            Some(Ok(watcher::Event::InitApply(object))) => found = Some(object),
            Some(Ok(watcher::Event::Apply(object))) => {
                found = Some(object);
                tell(&told, values(found.as_ref(), &name));
            }
            Some(Ok(watcher::Event::InitDone)) => tell(&told, values(found.as_ref(), &name)),
            Some(Ok(watcher::Event::Delete(_))) => {
                found = None;
                tell(&told, values(None, &name));
            }
            // What was read last stays in force while the API is away; a look at it says so.
            Some(Err(error)) => {
                let line = clean_line(&format!("control: {error}; the last values stay in force"));
                shell.problem("control", vec![line]).await;
                continue;
            }
        }
        shell.problem("control", Vec::new()).await;
    }
}

fn values(map: Option<&ConfigMap>, name: &str) -> Values {
    let map = map.ok_or_else(|| format!("the ConfigMap {name} is not there"))?;
    Ok(map.data.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_read_stops_pickup() {
        let base = Config { kill_switch: false, ..Config::default() };
        let of = |values: Values| over(&base, &values);
        assert!(!of(Ok(BTreeMap::new())).0.kill_switch);
        let on = [("AFK_KILL_SWITCH".to_owned(), "on".to_owned())].into();
        assert_eq!((of(Ok(on)).0.kill_switch, of(Ok(BTreeMap::new())).1), (true, None));
        let bad = [("AFK_KILL_SWITCH".to_owned(), "offf".to_owned())].into();
        let (config, problem) = of(Ok(bad));
        assert!(config.kill_switch && problem.unwrap().contains("AFK_KILL_SWITCH"));
        let (config, problem) = of(Err("it is gone".into()));
        assert!(config.kill_switch && problem.unwrap().contains("it is gone"));
    }
}
