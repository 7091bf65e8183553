//! Spend: the cost of runs, as a text that follows the fleet.

use crate::core::query::explain;
use crate::tui::response::TextView;

pub(super) fn document() -> TextView {
    TextView::live("Spend", |snapshot, _| {
        explain::spend(&snapshot.fleet, snapshot.fleet.last_event)
    })
}
