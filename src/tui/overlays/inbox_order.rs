//! The order of the inbox's rows, as it was when the inbox was opened.
//!
//! A newcomer is appended below the rows that were there, so that no row moves under the operator's
//! finger; `inbox` says how many came since.

use crate::core::model::id::{EscalationId, OutboxId};
use crate::core::query::outbox;
use crate::runtime::Snapshot;

/// A row of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InboxRow {
    Question(EscalationId),
    /// A step of the outbox that failed.
    Step(OutboxId),
}

/// The open escalations in the fleet's order, then the steps that failed.
fn open(snapshot: &Snapshot) -> Vec<InboxRow> {
    let questions = snapshot.fleet.inbox().into_iter().map(|e| InboxRow::Question(e.id));
    questions.chain(outbox::troubled(&snapshot.fleet).map(|e| InboxRow::Step(e.id))).collect()
}

/// The rows in their pinned order; see the module.
#[derive(Debug, Default)]
pub(super) struct PinnedOrder {
    rows: Vec<InboxRow>,
    /// The rows that came after the inbox was opened and were not selected yet.
    newer: Vec<InboxRow>,
    opened: bool,
}

impl PinnedOrder {
    /// Removes the rows that are no longer open, and appends those that came.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        let open = open(snapshot);
        self.rows.retain(|row| open.contains(row));
        self.newer.retain(|row| open.contains(row));
        for row in open {
            if self.rows.contains(&row) {
                continue;
            }
            self.rows.push(row);
            if self.opened {
                self.newer.push(row);
            }
        }
        self.opened = true;
    }

    pub(super) fn rows(&self) -> &[InboxRow] {
        &self.rows
    }

    /// Notes that the operator selected a row.
    pub(super) fn selected(&mut self, row: InboxRow) {
        self.newer.retain(|known| *known != row);
    }

    /// The rows that came since the inbox was opened and were not selected yet.
    pub(super) fn newer(&self) -> usize {
        self.newer.len()
    }
}
