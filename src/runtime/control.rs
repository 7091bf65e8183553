//! Control values: settings such as the kill switch that a platform changes while afk runs, in a
//! mounted folder or a `ConfigMap`.
//!
//! [`config_watch`](super::config_watch) lays them over the configuration. Values that can't be
//! read or parsed engage the kill switch until they can be: afk never guesses whether it may work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Context;
use super::side_state::ProblemSource;
use crate::cluster;
use crate::config::control::{NAMES, apply};
use crate::config::{Config, ConfigError};
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::trusted_file;

/// Values by name, or why they can't be read.
pub(super) type ControlValues = Result<BTreeMap<String, String>, String>;

/// The time between two reads, if the watcher of the folder reports nothing.
const READ_INTERVAL: Duration = Duration::from_secs(30);
/// The same without a watcher.
const UNWATCHED_READ_INTERVAL: Duration = Duration::from_millis(500);
/// Changes within this time lead to one read.
const SETTLE: Duration = Duration::from_millis(50);

/// The configuration with the values laid over it. If they are unusable, the kill switch is on and
/// the second result says why.
pub(super) fn overlay(base: &Config, values: &ControlValues) -> (Config, Option<String>) {
    let stopped = |why: String| {
        let line = format!("control: {why}; nothing is picked up until it can be read");
        (Config { kill_switch: true, ..base.clone() }, Some(clean_line(&line)))
    };
    match values {
        Err(why) => stopped(why.clone()),
        Ok(values) => match lay_over(base, values) {
            Ok(config) => (config, None),
            Err(error) => stopped(error.to_string()),
        },
    }
}

fn lay_over(base: &Config, values: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let mut config = base.clone();
    apply(&mut config, &|name| values.get(name).cloned())?;
    config.check()?;
    Ok(config)
}

/// The values in a folder, one file each; a missing file leaves the configuration as it is.
pub(super) fn read(folder: &Path) -> ControlValues {
    if !folder.is_dir() {
        return Err(format!("{} is not a folder", folder.display()));
    }
    let mut values = BTreeMap::new();
    for name in NAMES {
        match trusted_file::read(&folder.join(name)) {
            Ok(text) => {
                values.insert(name.to_owned(), text);
            }
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(format!("{name}: {}", chain(&error))),
        }
    }
    Ok(values)
}

/// The values at the start. A `ConfigMap` counts as unreadable until the API has answered.
pub(super) fn first(config: &Config) -> ControlValues {
    match (&config.control.folder, &config.control.config_map) {
        (Some(folder), _) => read(folder),
        (None, Some(name)) => Err(format!("the ConfigMap {name} is not read yet")),
        (None, None) => Ok(BTreeMap::new()),
    }
}

/// Follows the place that is configured now, and sends each change of the values.
pub(super) fn follow(context: &Arc<Context>, sender: watch::Sender<ControlValues>) {
    let control = context.config().control.clone();
    if let Some(folder) = control.folder {
        tokio::spawn(follow_folder(context.clone(), folder, sender));
    } else if let Some(name) = control.config_map {
        tokio::spawn(follow_config_map(context.clone(), name, sender));
    }
}

fn publish(sender: &watch::Sender<ControlValues>, values: ControlValues) {
    sender.send_if_modified(|known| {
        let changed = *known != values;
        *known = values;
        changed
    });
}

async fn follow_folder(
    context: Arc<Context>,
    folder: PathBuf,
    sender: watch::Sender<ControlValues>,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full queue already holds a change.
            let _ = changed.try_send(());
        }
    });
    // Kubernetes updates a mounted ConfigMap by replacing a link in its folder.
    let mut watcher = watcher.ok();
    loop {
        let watched = watcher.as_mut().is_some_and(|watcher| {
            watcher.watch(&folder, notify::RecursiveMode::NonRecursive).is_ok()
        });
        publish(&sender, read(&folder));
        let look = if watched { READ_INTERVAL } else { UNWATCHED_READ_INTERVAL };
        tokio::select! {
            Some(()) = changes.recv() => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
            }
            () = sleep(look) => {}
            () = context.cancel.cancelled() => return,
        }
    }
}

async fn follow_config_map(
    context: Arc<Context>,
    name: String,
    sender: watch::Sender<ControlValues>,
) {
    let Some((namespace, map)) = name.split_once('/') else {
        return publish(&sender, Err(format!("{name:?} is not of the form namespace/name")));
    };
    let config = context.config().kubernetes.clone();
    let client = loop {
        match cluster::client(&config, None).await {
            Ok(client) => break client,
            Err(error) => publish(&sender, Err(error)),
        }
        tokio::select! {
            () = sleep(READ_INTERVAL) => {}
            () = context.cancel.cancelled() => return,
        }
    };
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={map}")).timeout(30);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut found = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = context.cancel.cancelled() => return,
        };
        match event {
            None => return,
            Some(Ok(watcher::Event::Init)) => found = None,
            Some(Ok(watcher::Event::InitApply(object))) => found = Some(object),
            Some(Ok(watcher::Event::Apply(object))) => {
                found = Some(object);
                publish(&sender, values(found.as_ref(), &name));
            }
            Some(Ok(watcher::Event::InitDone)) => publish(&sender, values(found.as_ref(), &name)),
            Some(Ok(watcher::Event::Delete(_))) => {
                found = None;
                publish(&sender, values(None, &name));
            }
            // The last values stay in force while the API is unreachable, and a problem says so.
            Some(Err(error)) => {
                let why = cluster::reason(&error);
                let line = format!("control: {why}; the last values stay in force");
                context.report_problems(ProblemSource::Control, vec![line]).await;
                continue;
            }
        }
        context.report_problems(ProblemSource::Control, Vec::new()).await;
    }
}

fn values(map: Option<&ConfigMap>, name: &str) -> ControlValues {
    let map = map.ok_or_else(|| format!("the ConfigMap {name} is not there"))?;
    Ok(map.data.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_values_engage_the_kill_switch() {
        let base = Config { kill_switch: false, ..Config::default() };
        let of = |values: ControlValues| overlay(&base, &values);
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
