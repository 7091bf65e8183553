//! Texts and comments of the operator between the typing and the moment when the fleet has accepted them.
//!
//! ```text
//! a prompt ─▶ SendDraft, Request::Command ─▶ the fleet ─▶ accepted: the draft goes
//!                                                    └──▶ refused: it is kept
//! ```

use super::App;
use crate::core::model::command::Command;
use crate::core::model::id::RunId;
use crate::tui::drafts::Drafts;
use crate::tui::request::Request;
use crate::tui::response::Prompt;
use crate::tui::review::{ReviewChange, ReviewComment};

impl App {
    /// The texts to keep for the next time, with those of prompts that are open.
    pub(crate) fn drafts(&self) -> Drafts {
        let mut drafts = self.desk.drafts.clone();
        for (title, text) in self.overlays.iter().filter_map(|overlay| overlay.draft()) {
            drafts.keep(title, text);
        }
        drafts
    }

    /// Puts the draft of a prompt into it. It stays a draft until it is sent.
    pub(super) fn fill_with_draft(&self, prompt: &mut Prompt) {
        let drafts = &self.desk.drafts;
        let Some(text) = drafts.of(&prompt.title) else { return };
        text.clone_into(&mut prompt.text);
        let about = if drafts.is_under_way(&prompt.title) {
            "You have sent this text, and afk has not accepted it yet."
        } else {
            "This is your draft from before."
        };
        prompt.about.push(about.into());
    }

    pub(super) fn keep_draft(&mut self, title: String, text: String) {
        self.say("the draft is kept: opening the same prompt brings it back");
        self.desk.drafts.keep(title, text);
    }

    /// Forgets the text of a command that the fleet has accepted.
    pub(crate) fn accepted(&mut self, command: &Command) {
        self.desk.drafts.accepted(command);
    }

    /// Shows why the fleet did not accept a command, and keeps its text.
    pub(crate) fn refused(&mut self, command: &Command, why: &str) {
        let is_kept = self.desk.drafts.refused(command);
        let kept = if is_kept { "; its prompt keeps your text" } else { "" };
        self.refuse(format!("{why}{kept}"));
    }

    /// Keeps the text of a request that does not leave the cockpit.
    pub(super) fn keep_unsent(&mut self, request: &Request) {
        if let Request::Command(command) = request {
            self.desk.drafts.refused(command);
        }
    }

    /// Forgets the comments on a run that its agent has got; those that were written meanwhile wait.
    pub(crate) fn review_sent(&mut self, run: RunId, comments: Vec<ReviewComment>) {
        self.desk.drafts.reviews.change(run, ReviewChange::Drop(comments));
        self.say(format!("the comments are with the agent of {run}"));
    }
}
