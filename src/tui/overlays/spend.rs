//! Spend: the cost of runs, as a text that follows the fleet.

use crate::core::explain;
use crate::tui::component::Document;

pub(super) fn document() -> Document {
    Document::live("Spend", |snapshot, _| explain::spend(&snapshot.fleet))
}
