//! What was told of a turn's thread, so that a restart tells it no more.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::agent::fields::text;

/// What was told of a turn, by its ids; a restart begins with it.
#[derive(Debug)]
pub struct Told {
    path: PathBuf,
    ids: BTreeSet<String>,
}

impl Told {
    /// What is kept of it.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Self { path, ids: text.lines().map(str::to_owned).collect() }
    }

    /// The ids.
    #[must_use]
    pub const fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// A value was told.
    pub fn add(&mut self, value: &Value) {
        let payload = &value["event"]["payload"];
        let thread = &value["snapshot"]["thread"];
        let list = |key: &str| thread[key].as_array().into_iter().flatten();
        let whole = |message: &&Value| message["streaming"] != json!(true);
        let mut ids: Vec<&str> = list("activities").map(|item| text(item, "id")).collect();
        ids.extend(list("messages").filter(whole).map(|item| text(item, "id")));
        ids.push(text(&payload["activity"], "id"));
        ids.extend(Some(payload).filter(whole).map(|item| text(item, "messageId")));
        let new = |id: &&str| !id.is_empty() && id.len() < 200 && !id.contains('\n');
        let mut lines = String::new();
        for id in ids.into_iter().filter(new) {
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
            tracing::warn!(path = %self.path.display(), %error, "events may be told twice");
        }
    }
}
