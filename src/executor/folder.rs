//! What a worker and the one who follows it share: a folder with the task, the events so far, and
//! what the worker is told meanwhile. It outlives both.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::{Control, TurnSpec};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};

/// The longest line that is read: events are bounded far below it.
const LINE: u64 = 16 * 1024 * 1024;

/// What a worker tells, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It has begun.
    Begun {
        /// Of the worker's afk.
        version: String,
    },
    /// The agent said or did something.
    Event(AgentEvent),
    /// The turn is over; nothing follows.
    End(TurnEnd),
}

/// The folder of a turn.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a turn's name.
    #[must_use]
    pub fn new(root: &Path, name: &str) -> Self {
        Self(root.join(name))
    }

    /// That folder, by its path.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts the task there, whole or not at all; one that is there stays.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn give(&self, spec: &TurnSpec) -> io::Result<()> {
        let path = self.0.join("task.json");
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.0)?;
        let aside = self.0.join("task.new");
        let mut file = File::create(&aside)?;
        serde_json::to_writer(&mut file, spec)?;
        file.sync_all()?;
        std::fs::rename(aside, path)
    }

    /// The task.
    ///
    /// # Errors
    /// Where it isn't there or isn't one.
    pub fn task(&self) -> io::Result<TurnSpec> {
        let file = File::open(self.0.join("task.json"))?;
        Ok(serde_json::from_reader(BufReader::new(file))?)
    }

    /// Adds a line to what is told.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn tell(&self, told: &Told) -> io::Result<()> {
        self.add("events.jsonl", told)
    }

    /// Adds a line to what the worker is told.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn control(&self, control: &Control) -> io::Result<()> {
        self.add("controls.jsonl", control)
    }

    fn add(&self, name: &str, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(self.0.join(name))?.write_all(&bytes)
    }

    /// What is told, from its beginning on.
    #[must_use]
    pub fn events(&self) -> Lines<Told> {
        Lines::new(self.0.join("events.jsonl"), 0)
    }

    /// What was not taken yet of what is told.
    #[must_use]
    pub fn news(&self) -> Lines<Told> {
        let taken = std::fs::read_to_string(self.0.join("taken")).unwrap_or_default();
        Lines::new(self.0.join("events.jsonl"), taken.trim().parse().unwrap_or(0))
    }

    /// All up to there was taken: it is not told again after a restart.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn taken(&self, lines: &Lines<Told>) -> io::Result<()> {
        let aside = self.0.join("taken.new");
        std::fs::write(&aside, lines.at.to_string())?;
        std::fs::rename(aside, self.0.join("taken"))
    }

    /// What the worker is told.
    #[must_use]
    pub fn controls(&self) -> Lines<Control> {
        Lines::new(self.0.join("controls.jsonl"), 0)
    }
}

/// A file of lines that grows. A line that is not whole yet is left for later.
#[derive(Debug)]
pub struct Lines<T> {
    path: PathBuf,
    at: u64,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    const fn new(path: PathBuf, at: u64) -> Self {
        Self { path, at, kind: std::marker::PhantomData }
    }

    /// The whole lines that came since, at most `most` of them. One that can't be read is passed
    /// over.
    ///
    /// # Errors
    /// Where the file is there and can't be read.
    pub fn next(&mut self, most: usize) -> io::Result<Vec<T>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.at))?;
        let mut reader = BufReader::new(file);
        let (mut all, mut line) = (Vec::new(), Vec::new());
        while all.len() < most {
            line.clear();
            let read = reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') && (read as u64) < LINE {
                break;
            }
            self.at += read as u64;
            match serde_json::from_slice(&line) {
                Ok(value) => all.push(value),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "a line can't be read");
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Told {
        Told::Event(AgentEvent::Text { text: text.into() })
    }

    #[test]
    fn what_was_taken_is_not_told_again_and_half_a_line_waits() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path(), "r1-t1");
        std::fs::create_dir_all(folder.path()).unwrap();
        assert_eq!(folder.news().next(9).unwrap(), []);
        folder.tell(&text("one")).unwrap();
        folder.tell(&text("two")).unwrap();
        let mut news = folder.news();
        assert_eq!(news.next(1).unwrap(), [text("one")]);
        folder.taken(&news).unwrap();
        assert_eq!(folder.news().next(9).unwrap(), [text("two")]);
        let path = folder.path().join("events.jsonl");
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"nonsense\n{\"end\":{\"end\":\"do").unwrap();
        let mut news = folder.news();
        assert_eq!(news.next(9).unwrap(), [text("two")]);
        file.write_all(b"ne\"}}\n").unwrap();
        assert_eq!(news.next(9).unwrap(), [Told::End(TurnEnd::Done)]);
        assert_eq!(folder.events().next(9).unwrap().len(), 3);
    }
}
