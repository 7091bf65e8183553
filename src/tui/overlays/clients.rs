//! Clients: everybody who is attached to this fleet, a line each.

use crate::core::command::Role;
use crate::core::id::Timestamp;
use crate::core::untrusted::clean_line;
use crate::runtime::client::Attached;
use crate::tui::component::Document;
use crate::tui::widgets::text::age;

pub(super) fn document() -> Document {
    Document::live("Clients", |snapshot, now| {
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
