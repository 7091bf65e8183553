//! The worker: the same afk in a pod. It carries one turn out in its shared folder, and writes down
//! what happens; the one who follows may come and go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::interval;

use super::folder::{Folder, Told};
use crate::agent::Control;
use crate::agent::driver;
use crate::agent::redact::{Redactor, names_a_secret};
use crate::core::model::agent_event::AgentEvent;
use crate::process::Supervisor;

/// Between two looks at what it is told.
const LOOK: Duration = Duration::from_millis(200);
/// Events that may wait to be written.
const EVENTS: usize = 256;

/// Carries the turn in a folder out. One that is over already is not repeated.
///
/// # Errors
/// A line for a person: the folder can't be read or written.
pub async fn run(path: PathBuf, launcher: PathBuf) -> Result<(), String> {
    let folder = Folder::at(path);
    let tell = |error: std::io::Error| format!("{}: {error}", folder.path().display());
    let mut so_far = folder.events();
    loop {
        let lines = so_far.next(1000).map_err(tell)?;
        if lines.iter().any(|line| matches!(line, Told::End(_))) {
            return Ok(());
        }
        if lines.is_empty() {
            break;
        }
    }
    let mut spec = folder.task().map_err(tell)?;
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let known = spec.inherit.iter().filter_map(|name| environment.get_key_value(name));
    spec.env.extend(known.map(|(name, value)| (name.clone(), value.clone())));
    let secret = |name: &String| names_a_secret(name) || spec.inherit.contains(name);
    let values = environment.iter().filter(|(name, _)| secret(name));
    spec.redactor = Redactor::new(values.map(|(_, value)| value.clone()));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    folder.tell(&Told::Begun { version }).map_err(tell)?;
    let name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let supervisor = Supervisor::new(launcher, name.unwrap_or_default(), Duration::from_secs(10));
    let (events, mut heard) = mpsc::channel::<AgentEvent>(EVENTS);
    let (control, mut controls) = mpsc::channel(32);
    let listening = tokio::spawn(listen(folder.clone(), control));
    let write = async {
        while let Some(event) = heard.recv().await {
            folder.tell(&Told::Event(event)).map_err(tell)?;
        }
        Ok::<(), String>(())
    };
    let work = async {
        let end = driver::run(&supervisor, &spec, &events, &mut controls).await;
        drop(events);
        end
    };
    let (end, written) = tokio::join!(work, write);
    listening.abort();
    written?;
    folder.tell(&Told::End(end)).map_err(tell)
}

async fn listen(folder: Folder, tell: mpsc::Sender<Control>) {
    let mut lines = folder.controls();
    let mut every = interval(LOOK);
    loop {
        every.tick().await;
        // A share that is away for a moment is looked at again.
        for control in lines.next(32).unwrap_or_default() {
            if tell.send(control).await.is_err() {
                return;
            }
        }
    }
}
