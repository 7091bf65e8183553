//! Remembers which messages and activities of a thread afk has emitted.
//!
//! The link adds the ids of each value that it passes on; after a restart, the thread skips what
//! the file contains. Without it, a server's snapshot would repeat the whole turn in the
//! transcript.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::agent::fields::text;

/// The ids, and the file in the turn's folder with one id a line.
#[derive(Debug)]
pub(crate) struct SeenIds {
    path: PathBuf,
    ids: BTreeSet<String>,
}

impl SeenIds {
    /// Reads the file; a missing one counts as empty.
    pub(crate) fn open(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { path, ids: text.lines().map(str::to_owned).collect() }
    }

    pub(crate) const fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Appends the ids of a value from the server. An unfinished message is left out: its rest is
    /// new after a restart.
    pub(crate) fn add(&mut self, value: &Value) {
        let payload = &value["event"]["payload"];
        let thread = &value["snapshot"]["thread"];
        let list = |key: &str| thread[key].as_array().into_iter().flatten();
        let finished = |message: &&Value| message["streaming"] != json!(true);
        let mut ids: Vec<&str> = list("activities").map(|item| text(item, "id")).collect();
        ids.extend(list("messages").filter(finished).map(|item| text(item, "id")));
        ids.push(text(&payload["activity"], "id"));
        ids.extend(Some(payload).filter(finished).map(|item| text(item, "messageId")));
        let valid = |id: &&str| !id.is_empty() && id.len() < 200 && !id.contains('\n');
        let mut lines = String::new();
        for id in ids.into_iter().filter(valid) {
            if self.ids.insert(id.to_owned()) {
                lines.push_str(id);
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            return;
        }
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(lines.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "a restart may repeat events");
        }
    }
}
