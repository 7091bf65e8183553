//! Delivering the outbox.

use std::time::Duration;

use super::Shell;
use crate::core::id::OutboxId;
use crate::core::input::Input;
use crate::core::outbox::OutboxStep;
use crate::notify::terminal::shown;

/// Longest time of one delivery.
const DELIVERY: Duration = Duration::from_secs(60);

/// Delivers an entry and reports; a failure is tried again by the core.
pub(super) async fn deliver(shell: &Shell, entry: OutboxId, step: OutboxStep) {
    let done = tokio::time::timeout(DELIVERY, hand_over(shell, entry, &step)).await;
    let input = match done {
        Ok(Ok(())) => Input::Delivered { entry },
        Ok(Err(error)) => Input::NotDelivered { entry, error },
        Err(_) => Input::NotDelivered { entry, error: "took too long".into() },
    };
    if let Input::NotDelivered { error, .. } = &input {
        tracing::warn!(%entry, step = step.line(), error, "not delivered");
    }
    shell.send(input).await;
}

async fn hand_over(shell: &Shell, entry: OutboxId, step: &OutboxStep) -> Result<(), String> {
    let tracker = shell.tracker();
    match step {
        OutboxStep::Label { issue, label } => tracker.set_label(issue, *label).await,
        OutboxStep::Comment { issue, text, .. } => tracker.comment(issue, entry, text).await,
        OutboxStep::Close { issue } => tracker.close(issue).await,
        OutboxStep::Notify { what, .. } => {
            // Nobody may be attached; the inbox and the brief have it as well.
            let _ = shell.notices.send(shown(what));
            Ok(())
        }
    }
    .map_err(|error| crate::core::untrusted::clean_line(&error.to_string()))
}
