//! Facts about a transcript that a record alone doesn't have: the turn that it belongs to, the subagent
//! that used its tool, the code block that it continues, and what is going on now.
//!
//! The records are read once, from at most [`SCANNED`] before the end that was found on opening: an older
//! part of a long transcript is shown without these facts.

use std::collections::BTreeMap;
use std::io;

use crate::core::model::agent_event::{AgentEvent, PlanItem};
use crate::core::model::budget::MicroUsd;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::{Reader, TranscriptEntry};

/// The records that are read on opening.
const SCANNED: usize = 1024;
/// Records that are read at once.
const CHUNK: usize = 128;
/// Uses of tools, and parts of code blocks, that are kept; older ones are forgotten.
const TOOLS: usize = 4096;

/// The course of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TurnFacts {
    pub(super) began: Timestamp,
    /// The time of the latest record.
    pub(super) last: Timestamp,
    pub(super) usd: MicroUsd,
}

/// A tool that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolUse {
    pub(super) title: String,
    pub(super) since: Timestamp,
    /// The use of a tool that started the subagent which uses this one.
    parent: Option<String>,
    /// The record of its start.
    record: usize,
}

/// The facts so far; see the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The first record that was not read.
    next: usize,
    turns: BTreeMap<u32, TurnFacts>,
    /// Every use of a tool, by the agent's identifier.
    tools: BTreeMap<String, ToolUse>,
    /// The uses that have not ended.
    running: Vec<String>,
    plan: Vec<PlanItem>,
    /// The language of the code block that is open, and the records that begin in one.
    fence: Option<String>,
    fenced: BTreeMap<usize, String>,
}

impl Index {
    /// Reads the records that came since the last time.
    pub(super) fn update(&mut self, reader: &Reader) -> io::Result<()> {
        if self.next == 0 {
            self.next = reader.len().saturating_sub(SCANNED);
        }
        while self.next < reader.len() {
            let entries = reader.read(self.next, CHUNK)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                self.read(self.next, &entry);
                self.next += 1;
            }
        }
        Ok(())
    }

    fn read(&mut self, record: usize, entry: &TranscriptEntry) {
        let begins = matches!(entry.event, AgentEvent::Prompt { .. });
        let turn = TurnFacts { began: entry.at, last: entry.at, usd: MicroUsd(0) };
        if begins {
            self.turns.insert(entry.turn, turn);
            // What an ended turn left open is over.
            self.running.clear();
        }
        if let Some(turn) = self.turns.get_mut(&entry.turn) {
            // Gates and deploys write to the turn before them, and are none of it.
            if !matches!(entry.event, AgentEvent::Notice { .. }) {
                turn.last = entry.at;
            }
        }
        let fence = self.fence.take();
        match &entry.event {
            AgentEvent::Text { text } => {
                if let Some(language) = &fence {
                    self.fenced.insert(record, language.clone());
                    if self.fenced.len() > TOOLS {
                        self.fenced.pop_first();
                    }
                }
                self.fence = after(&text.clean(), fence);
            }
            AgentEvent::Usage(spend) => {
                if let Some(turn) = self.turns.get_mut(&entry.turn) {
                    turn.usd = MicroUsd(turn.usd.0.saturating_add(spend.usd.0));
                }
            }
            AgentEvent::ToolStart { id, title, parent, .. } => {
                if self.tools.len() >= TOOLS {
                    self.tools.clear();
                    self.running.clear();
                }
                let (title, since, parent) = (title.clean_line(), entry.at, parent.clone());
                self.tools.insert(id.clone(), ToolUse { title, since, parent, record });
                self.running.retain(|known| known != id);
                self.running.push(id.clone());
            }
            AgentEvent::ToolEnd { id, .. } => self.running.retain(|known| known != id),
            AgentEvent::Plan { items } => self.plan.clone_from(items),
            AgentEvent::TurnEnd(_) | AgentEvent::Exited { .. } => self.running.clear(),
            _ => {}
        }
    }

    pub(super) fn turn(&self, turn: u32) -> Option<&TurnFacts> {
        self.turns.get(&turn)
    }

    /// The title of the use of a tool that started the subagent which uses this one.
    pub(super) fn subagent_of(&self, tool: &str) -> Option<&str> {
        let parent = self.tools.get(tool)?.parent.as_ref()?;
        Some(self.tools.get(parent).map_or("subagent", |known| known.title.as_str()))
    }

    /// When a tool was started.
    pub(super) fn since(&self, tool: &str) -> Option<Timestamp> {
        self.tools.get(tool).map(|known| known.since)
    }

    /// The tools that run and whose start is not the record `newest`, the oldest first.
    pub(super) fn running(&self, newest: Option<usize>) -> impl Iterator<Item = &ToolUse> {
        let known = self.running.iter().filter_map(|id| self.tools.get(id));
        known.filter(move |tool| Some(tool.record) != newest)
    }

    /// The agent's latest plan.
    pub(super) fn plan(&self) -> &[PlanItem] {
        &self.plan
    }

    /// The language of the code block that a record begins in.
    pub(super) fn fence(&self, record: usize) -> Option<&str> {
        self.fenced.get(&record).map(String::as_str)
    }
}

/// The language of the code block that is open after a text.
fn after(text: &str, mut open: Option<String>) -> Option<String> {
    for line in text.lines() {
        let Some(rest) = line.trim_start().strip_prefix("```") else { continue };
        open = match open {
            None if !rest.contains('`') => Some(rest.trim().to_owned()),
            Some(_) if rest.trim().is_empty() => None,
            known => known,
        };
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::budget::Spend;

    #[test]
    fn code_block_is_open_until_its_end() {
        let after = |text, open: Option<&str>| after(text, open.map(str::to_owned));
        assert_eq!(after("a\n```rust\nfn", None).as_deref(), Some("rust"));
        assert_eq!(after("```sh\nls\n```\nb", None), None);
        assert_eq!(after("one\n\ntwo", Some("py")).as_deref(), Some("py"));
        assert_eq!(after("two\n```", Some("py")), None);
        assert_eq!(after("```a``` is inline", None), None);
    }

    #[test]
    fn turns_tools_and_plans_are_known() {
        let mut index = Index::default();
        let tool = |id: &str, parent: Option<&str>| AgentEvent::ToolStart {
            id: id.into(),
            kind: "task".into(),
            title: format!("use {id}").as_str().into(),
            parent: parent.map(str::to_owned),
        };
        let spend = |usd| AgentEvent::Usage(Spend { usd: MicroUsd(usd), ..Spend::default() });
        let events = [
            AgentEvent::Prompt { text: "do".into() },
            tool("a", None),
            tool("b", Some("a")),
            spend(5),
            spend(7),
            AgentEvent::Plan { items: vec![PlanItem { text: "x".into(), done: true }] },
        ];
        for (at, event) in events.into_iter().enumerate() {
            let minute = i64::try_from(at).unwrap() * 60_000;
            index.read(at, &TranscriptEntry { at: Timestamp(minute), turn: 1, event });
        }
        let turn = index.turn(1).unwrap();
        assert_eq!((turn.last.since(turn.began), turn.usd), (300_000, MicroUsd(12)));
        assert_eq!(index.subagent_of("b"), Some("use a"));
        assert_eq!(index.subagent_of("a"), None);
        let running: Vec<&str> = index.running(None).map(|tool| tool.title.as_str()).collect();
        assert_eq!(running, ["use a", "use b"]);
        assert_eq!(index.running(Some(2)).count(), 1);
        assert_eq!(index.plan().len(), 1);
        let end = AgentEvent::TurnEnd(crate::core::model::agent_event::TurnEnd::Done);
        index.read(6, &TranscriptEntry { at: Timestamp(0), turn: 1, event: end });
        assert_eq!(index.running(None).count(), 0);
    }
}
