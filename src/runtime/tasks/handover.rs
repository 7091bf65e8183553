//! What a new conversation gets to know about the work of the earlier ones of its run: a conversation
//! can be lost, be full, or belong to another agent.
//!
//! ```text
//!   transcript ── plan, last words, operators' messages ─┐
//!                                                        ├─▶ Handover::text ─▶ the prompt
//!   worktree ─── git log, git status, git diff ──────────┘
//! ```

use std::path::Path;

use super::TaskContext;
use crate::core::model::agent_event::{AgentEvent, PlanItem};
use crate::core::model::run::Work;
use crate::journal::transcript::{Reader, TranscriptEntry};
use crate::redact::Redactor;
use crate::workspace::walled_git::WalledGit;

/// The records from the end of the transcript that are read.
const RECORDS: usize = 600;
/// The longest part of the agent's last words, in bytes.
const WORDS: usize = 4 * 1024;
/// The most messages of operators, and the longest part of one, in bytes.
const MESSAGES: usize = 8;
const MESSAGE: usize = 1024;
/// The longest list of commits or of files, and the longest difference, in bytes. A new conversation
/// must have room for its work.
const LIST: usize = 2 * 1024;
const DIFF: usize = 16 * 1024;

/// The parts of a handover; an empty one is left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Handover {
    plan: Vec<PlanItem>,
    words: String,
    messages: Vec<String>,
    log: String,
    status: String,
    diff: String,
}

/// The handover to a new conversation of the run; none if nothing was done before.
pub(super) async fn of_run(task: &TaskContext) -> Option<String> {
    let path = task.runtime.store.path(task.run.id);
    let earlier: Vec<_> = task.earlier.iter().map(|run| task.runtime.store.path(*run)).collect();
    // A transcript may have many MiB.
    let read = tokio::task::spawn_blocking(move || {
        let mut entries: Vec<TranscriptEntry> =
            earlier.iter().flat_map(|path| last_records(path)).map(as_message).collect();
        entries.extend(last_records(&path));
        entries
    });
    let mut handover = of_transcript(&read.await.unwrap_or_default());
    if let (Ok(worktree), Ok(base), Ok(pool)) = (task.worktree(), task.base(), task.pool().await) {
        // The clone of a job borrows the objects of the repository's base.
        let git = match task.run.work {
            Work::Issue { .. } => pool.walled(&worktree).owned_by(&task.owner()),
            Work::Prompt { .. } => task.clone_git(&pool, &worktree),
        };
        let has_secrets = !task.run.progress.leaks.is_empty();
        add_changes(&mut handover, &git, &base.0, has_secrets).await;
    }
    let text = Redactor::default().clean(&handover.text()).into_owned();
    (!text.is_empty()).then_some(text)
}

/// The record of an earlier run of a caller's session. Its prompt was a message of that conversation.
fn as_message(mut entry: TranscriptEntry) -> TranscriptEntry {
    if let AgentEvent::Prompt { text } = entry.event {
        entry.event = AgentEvent::Steered { text, by: String::new() };
    }
    entry
}

fn last_records(path: &Path) -> Vec<TranscriptEntry> {
    let mut reader = Reader::new(path.to_owned());
    if reader.refresh().is_err() {
        return Vec::new();
    }
    let from = reader.len().saturating_sub(RECORDS);
    reader.read(from, RECORDS).unwrap_or_default()
}

/// The last words, the plan and the messages of operators. The words of an earlier turn count if the
/// latest one has none.
fn of_transcript(entries: &[TranscriptEntry]) -> Handover {
    let mut handover = Handover::default();
    for entry in entries.iter().rev() {
        match &entry.event {
            AgentEvent::Plan { items } if handover.plan.is_empty() => {
                handover.plan.clone_from(items);
            }
            AgentEvent::Text { text } if handover.words.len() < WORDS => {
                let words = format!("{}\n{}", text.as_received(), handover.words);
                end_of(&words, WORDS).clone_into(&mut handover.words);
            }
            AgentEvent::Steered { text, .. } if handover.messages.len() < MESSAGES => {
                handover.messages.insert(0, start_of(text.as_received(), MESSAGE).to_owned());
            }
            _ => {}
        }
    }
    handover
}

/// Adds the commits, the files and the difference. A repository that git can't read adds nothing: the
/// agent finds its own state there. Where the gate has found secrets in the commits, the difference is
/// that of sizes alone, since the prompt is kept.
async fn add_changes(handover: &mut Handover, git: &WalledGit, base: &str, has_secrets: bool) {
    let ask = async |args: &[&str], most: usize| {
        let Some(shown) = git.ask(args).await.ok().filter(|shown| shown.ok) else {
            return String::new();
        };
        let text = shown.text();
        let cut = start_of(&text, most);
        if cut.len() < text.len() { format!("{cut}\n…") } else { text }
    };
    let range = format!("{base}..HEAD");
    handover.log = ask(&["log", "--oneline", "--no-decorate", &range], LIST).await;
    handover.status = ask(&["status", "--short"], LIST).await;
    let how = if has_secrets { "--stat" } else { "--patch" };
    let diff = ["diff", how, "--no-ext-diff", "--no-textconv", "--no-color", base];
    handover.diff = ask(&diff, DIFF).await;
}

impl Handover {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.words.trim().is_empty() {
            parts.push(format!(
                "The last words of the earlier conversation:\n\n{}",
                self.words.trim()
            ));
        }
        if !self.plan.is_empty() {
            let item = |item: &PlanItem| {
                format!("- [{}] {}", if item.done { 'x' } else { ' ' }, item.text.as_received())
            };
            let items: Vec<String> = self.plan.iter().map(item).collect();
            parts.push(format!("Its plan:\n\n{}", items.join("\n")));
        }
        if !self.messages.is_empty() {
            parts.push(format!("Messages of a human to it:\n\n{}", self.messages.join("\n\n")));
        }
        for (title, text) in [
            ("The commits so far (`git log`):", &self.log),
            ("Files that are not committed (`git status`):", &self.status),
            ("The difference to the commit that the work began from (`git diff`):", &self.diff),
        ] {
            if !text.trim().is_empty() {
                parts.push(format!("{title}\n\n{}", text.trim_end()));
            }
        }
        parts.join("\n\n")
    }
}

fn start_of(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn end_of(text: &str, most: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(most))..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::time::Timestamp;

    fn entry(event: AgentEvent) -> TranscriptEntry {
        TranscriptEntry { at: Timestamp(0), turn: 1, event }
    }

    #[test]
    fn handover_has_the_last_words_the_plan_and_the_messages() {
        let item = |text: &str, done| PlanItem { text: text.into(), done };
        let text = |text: &str| entry(AgentEvent::Text { text: text.into() });
        let entries = [
            entry(AgentEvent::Plan { items: vec![item("old", false)] }),
            text("I wrote the test."),
            entry(AgentEvent::Plan { items: vec![item("test", true), item("fix", false)] }),
            entry(AgentEvent::Steered { text: "use the parser".into(), by: "ana".into() }),
            text("Now the fix."),
        ];
        let shown = of_transcript(&entries).text();
        let order =
            ["I wrote the test.", "Now the fix.", "- [x] test", "- [ ] fix", "use the parser"];
        let places: Vec<Option<usize>> = order.iter().map(|part| shown.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{shown}");
        assert!(!shown.contains("old"), "{shown}");
    }

    #[test]
    fn handover_of_a_long_conversation_is_bounded() {
        let entries: Vec<TranscriptEntry> = (0..400)
            .map(|n| entry(AgentEvent::Text { text: format!("é{n} {}", "x".repeat(900)).into() }))
            .collect();
        let handover = of_transcript(&entries);
        assert!(handover.words.len() <= WORDS && handover.words.contains("é399"));
        assert_eq!(of_transcript(&[]).text(), "");
    }
}
