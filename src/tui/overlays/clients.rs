//! Clients: a line for each client that is attached to this fleet.

use crate::core::model::command::Role;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::runtime::client::Attached;
use crate::tui::response::TextView;
use crate::tui::widgets::text::age;

pub(super) fn document() -> TextView {
    TextView::live("Clients", |snapshot, now| {
        snapshot.clients.iter().map(|client| line(client, now)).collect()
    })
}

fn line(client: &Attached, now: Timestamp) -> String {
    let role = match client.role {
        Role::Operator => "operator",
        Role::Viewer => "viewer",
    };
    let (columns, rows) = client.size;
    clean_line(&format!(
        "{:<16} {role:<9} {:<20} {columns:>3}x{rows:<3} {:>4}",
        client.actor.0,
        client.origin,
        age(now, client.since),
    ))
}
