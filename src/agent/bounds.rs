//! Bounds of what one event of an agent may hold, whatever protocol or executor it came through.
//!
//! An agent's line may have 16 MiB, and all of it could be the name of a tool or the number of a
//! request. Events live on in the transcript, the journal, the fleet and every snapshot, so each text
//! gets the room that a person can read, and identifiers the room that real agents need.

use super::{TEXT_LIMIT, bounded_to};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::permission::MAX_TARGETS;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;

/// The longest identifier of a session, a tool's use or a request, in bytes. Real ones have fewer than
/// a hundred.
const ID: usize = 1024;
/// The longest name of a kind of tool, a model or a version, in bytes.
const NAME: usize = 256;
/// The longest title or path, in bytes: it is one line of a pane. Linux allows paths of 4096 bytes.
const TITLE: usize = 8 * 1024;
/// The longest question, in bytes.
const QUESTION: usize = 64 * 1024;
/// The most answers that a question may offer, and items that a plan may have.
const OPTIONS: usize = 20;
const PLAN: usize = 200;

/// Cuts an event's texts to their bounds. A request or a session whose identifier is too long becomes
/// a remark: a cut identifier would be another one.
pub(crate) fn bound(mut event: AgentEvent) -> AgentEvent {
    let identifier = match &event {
        AgentEvent::SessionStarted { session, .. } => Some(("session", session)),
        AgentEvent::PermissionRequest { id, .. } | AgentEvent::Question { id, .. } => {
            Some(("request", id))
        }
        AgentEvent::RequestWithdrawn { id } => Some(("request", id)),
        AgentEvent::ToolCall { id, .. } => Some(("call", id)),
        _ => None,
    };
    if let Some((what, id)) = identifier.filter(|(_, id)| id.len() > ID) {
        let text = format!(
            "the agent named a {what} with {}: afk ignores it, as the limit is {ID}",
            plural(id.len(), "byte")
        );
        return AgentEvent::Notice { text: text.into() };
    }
    match &mut event {
        AgentEvent::SessionStarted { model, version, .. } => {
            model.iter_mut().chain(version).for_each(|text| cut(text, NAME));
        }
        AgentEvent::ToolStart { id, kind, title, parent } => {
            cut_id(id);
            parent.iter_mut().for_each(cut_id);
            cut(kind, NAME);
            cut(title, TITLE);
        }
        AgentEvent::ToolRunning { title, .. } => cut(title, TITLE),
        AgentEvent::ToolEnd { id, title, output, .. } => {
            cut_id(id);
            cut(title, TITLE);
            cut(output, TEXT_LIMIT);
        }
        AgentEvent::Diff { path, diff } => {
            cut(path, TITLE);
            cut(diff, TEXT_LIMIT);
        }
        AgentEvent::Plan { items } => {
            items.truncate(PLAN);
            for item in items {
                cut(&mut item.text, TITLE);
            }
        }
        AgentEvent::PermissionRequest { request, .. } => {
            cut(&mut request.title, TITLE);
            cut(&mut request.detail, TEXT_LIMIT);
            // The core refuses a request with more targets than it judges, so one more is enough.
            request.targets.truncate(MAX_TARGETS + 1);
        }
        AgentEvent::Question { text, options, .. } => {
            cut(text, QUESTION);
            options.truncate(OPTIONS);
            for option in options {
                cut(option, TITLE);
            }
        }
        AgentEvent::ToolCall { tool, arguments, .. } => {
            // No tool of afk has a name of this length, so that the cut one is no tool either.
            tool.truncate(tool.floor_char_boundary(NAME));
            cut(arguments, TEXT_LIMIT);
        }
        AgentEvent::TurnEnd(TurnEnd::Blocked { .. }) => {
            event.texts(&mut |text| cut(text, QUESTION));
        }
        _ => event.texts(&mut |text| cut(text, TEXT_LIMIT)),
    }
    event
}

fn cut(text: &mut Untrusted, most: usize) {
    // Room for the remark about the cut, so that a second pass leaves the text as it is.
    if text.as_received().len() > most + 64 {
        *text = bounded_to(text.as_received(), most);
    }
}

/// Cuts the identifier of a tool's use in the same way at its start and at its end, so that both still
/// match.
fn cut_id(id: &mut String) {
    if id.len() > ID {
        id.truncate(id.floor_char_boundary(ID));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::permission::{PermissionRequest, Tool};

    const HUGE: usize = 700 * 1024;

    fn size(event: &AgentEvent) -> usize {
        serde_json::to_vec(event).unwrap().len()
    }

    #[test]
    fn names_and_paths_of_megabytes_are_cut() {
        let huge = || "é".repeat(HUGE / 2);
        let text = || Untrusted::new(huge());
        let many = |count| (0..count).map(|_| text()).collect::<Vec<_>>();
        let request = PermissionRequest {
            tool: Tool::Shell,
            title: text(),
            detail: text(),
            targets: vec!["x".into(); 100_000],
            editable: false,
        };
        for event in [
            AgentEvent::ToolStart { id: huge(), kind: text(), title: text(), parent: Some(huge()) },
            AgentEvent::ToolEnd { id: huge(), title: text(), ok: true, code: None, output: text() },
            AgentEvent::Diff { path: text(), diff: text() },
            AgentEvent::SessionStarted { session: "s".into(), model: Some(text()), version: None },
            AgentEvent::SessionStarted { session: huge(), model: None, version: None },
            AgentEvent::PermissionRequest { id: "1".into(), request: Box::new(request.clone()) },
            AgentEvent::PermissionRequest { id: huge(), request: Box::new(request) },
            AgentEvent::Question { id: "1".into(), text: text(), options: many(50) },
            AgentEvent::RequestWithdrawn { id: huge() },
            AgentEvent::Notice { text: text() },
            AgentEvent::TurnEnd(TurnEnd::Blocked { why: text() }),
        ] {
            let name = format!("{event:?}").chars().take(20).collect::<String>();
            let once = bound(event);
            assert!(size(&once) < 600 * 1024, "{name}: {} bytes", size(&once));
            assert_eq!(bound(once.clone()), once, "{name}: a second pass changes it");
        }
        // A request is cut only where its judges see that it was.
        let targets = vec![text()];
        let request = PermissionRequest {
            tool: Tool::Shell,
            title: "t".into(),
            detail: "d".into(),
            targets,
            editable: false,
        };
        let event =
            AgentEvent::PermissionRequest { id: "1".into(), request: Box::new(request.clone()) };
        assert_eq!(bound(event.clone()), event);
        assert!(request.is_too_large());
        // The end of a tool still names its start.
        let start = bound(AgentEvent::ToolStart {
            id: huge(),
            kind: "k".into(),
            title: "t".into(),
            parent: None,
        });
        let end = bound(AgentEvent::ToolEnd {
            id: huge(),
            title: "".into(),
            ok: true,
            code: None,
            output: "".into(),
        });
        match (start, end) {
            (AgentEvent::ToolStart { id: start, .. }, AgentEvent::ToolEnd { id: end, .. }) => {
                assert_eq!(start, end);
            }
            other => panic!("{other:?}"),
        }
    }
}
