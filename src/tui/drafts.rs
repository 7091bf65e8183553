//! What an operator has begun to write and has not sent: texts of prompts, and comments on diffs.
//!
//! A file in the state folder keeps them for each operator from one cockpit to the next, so that a link that
//! breaks takes no text away. What the last cockpit of an operator leaves is what the next one finds.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kept_file;
use super::review::Reviews;
use crate::core::model::id::Actor;

/// The folder in the state folder.
const FOLDER: &str = "drafts";
/// Drafts of prompts that are kept at most; the oldest goes first.
const MOST_PROMPTS: usize = 16;
/// The largest file that is read or written, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// The text of a prompt that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PromptDraft {
    /// The title of the prompt: it names the run or the escalation.
    title: String,
    text: String,
}

/// The texts that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Drafts {
    /// The newest is last.
    prompts: Vec<PromptDraft>,
    /// Comments on diffs.
    pub(crate) reviews: Reviews,
}

fn file(state: &Path, actor: &Actor) -> PathBuf {
    kept_file::of_operator(&state.join(FOLDER), actor)
}

impl Drafts {
    /// Reads the drafts of an operator: none are there where the file can't be read, since they are a
    /// convenience.
    pub(crate) fn load(state: &Path, actor: &Actor) -> Self {
        let file = file(state, actor);
        let size = std::fs::metadata(&file).map_or(0, |known| known.len());
        if size > LARGEST as u64 {
            return Self::default();
        }
        let read = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut drafts: Self = read.unwrap_or_default();
        drafts.prompts.truncate(MOST_PROMPTS);
        drafts.reviews.bound();
        drafts
    }

    /// Writes the drafts of an operator; without any, the file goes.
    ///
    /// # Errors
    /// The folder can't be written, or the drafts are larger than what is read again.
    pub(crate) fn save(&self, state: &Path, actor: &Actor) -> io::Result<()> {
        let file = file(state, actor);
        if *self == Self::default() {
            return match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the drafts are too large"));
        }
        kept_file::replace(&file, &bytes)
    }

    /// The text that was typed into a prompt before.
    pub(crate) fn of(&self, title: &str) -> Option<&str> {
        self.prompts.iter().find(|draft| draft.title == title).map(|draft| draft.text.as_str())
    }

    /// Keeps the text of a prompt.
    pub(crate) fn keep(&mut self, title: String, text: String) {
        self.drop(&title);
        if self.prompts.len() == MOST_PROMPTS {
            self.prompts.remove(0);
        }
        self.prompts.push(PromptDraft { title, text });
    }

    /// Forgets the text of a prompt: it was sent, or emptied.
    pub(crate) fn drop(&mut self, title: &str) {
        self.prompts.retain(|draft| draft.title != title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::RunId;
    use crate::tui::review::{ReviewChange, ReviewComment, ReviewedLine};

    fn drafts() -> Drafts {
        let mut drafts = Drafts::default();
        drafts.keep("Answer e1 (api#1)".into(), "wait\nfor ana".into());
        let line = ReviewedLine { place: "a.rs:7".into(), quote: "+x".into() };
        let comment = ReviewComment { row: 4, line, text: "why?".into() };
        drafts.reviews.change(RunId(3), ReviewChange::Put(comment));
        drafts
    }

    #[test]
    fn drafts_are_found_again_by_their_operator_alone() {
        let state = tempfile::tempdir().unwrap();
        let (ana, bob) = (Actor("ana".into()), Actor("../../bob".into()));
        drafts().save(state.path(), &ana).unwrap();
        let read = Drafts::load(state.path(), &ana);
        assert_eq!(read, drafts());
        assert_eq!(read.of("Answer e1 (api#1)"), Some("wait\nfor ana"));
        assert_eq!(Drafts::load(state.path(), &bob), Drafts::default());
        Drafts::default().save(state.path(), &ana).unwrap();
        assert_eq!(Drafts::load(state.path(), &ana), Drafts::default());
        assert_eq!(std::fs::read_dir(state.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn file_of_drafts_is_for_its_user_alone_and_a_broken_one_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let ana = Actor("ana".into());
        drafts().save(state.path(), &ana).unwrap();
        let file = file(state.path(), &ana);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for broken in ["", "{", "{\"prompts\":7}", "[]"] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(Drafts::load(state.path(), &ana), Drafts::default(), "{broken}");
        }
    }

    #[test]
    fn drafts_of_prompts_are_bounded_and_the_oldest_goes() {
        let mut drafts = Drafts::default();
        for at in 0..MOST_PROMPTS + 3 {
            drafts.keep(format!("p{at}"), "x".into());
        }
        assert_eq!(
            (drafts.prompts.len(), drafts.of("p2"), drafts.of("p3")),
            (MOST_PROMPTS, None, Some("x"))
        );
    }
}
