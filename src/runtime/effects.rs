//! Delivering the outbox.

use std::time::Duration;

use super::Shell;
use crate::core::fleet::Fleet;
use crate::core::model::id::OutboxId;
use crate::core::model::input::Input;
use crate::core::model::outbox::OutboxStep;
use crate::core::query::progress;
use crate::error::chain;
use crate::github::ApiError;
use crate::notify::terminal::terminal_notice;
use crate::notify::{OutgoingNotice, SendOutcome};
use crate::tracker::TrackerError;

/// Longest time of one delivery.
const DELIVERY: Duration = Duration::from_secs(60);

/// An entry with what the fleet tells of it when it is begun.
#[derive(Debug)]
pub(super) struct Delivery {
    entry: OutboxId,
    step: OutboxStep,
    /// The text of a progress comment.
    text: Option<String>,
    /// The run and the issue's address, of a notice.
    about: (Option<std::sync::Arc<crate::core::model::run::Run>>, Option<String>),
}

/// Why an entry was not delivered.
struct Failure {
    error: String,
    /// The least to wait, in milliseconds.
    wait: i64,
    /// It will never be.
    forever: bool,
}

impl Delivery {
    pub(super) fn new(entry: OutboxId, step: OutboxStep, fleet: &Fleet) -> Self {
        let text = match &step {
            OutboxStep::Progress { issue } => progress::text(fleet, issue),
            _ => None,
        };
        let about = match &step {
            OutboxStep::Notify { run, .. } => {
                let run = run.and_then(|run| fleet.runs.get(&run).cloned());
                let issue = run.as_ref().and_then(|run| fleet.issues.get(run.work.issue()?));
                let link = issue.and_then(|issue| issue.link.as_ref());
                (run, link.map(|link| link.as_received().to_owned()))
            }
            _ => (None, None),
        };
        Self { entry, step, text, about }
    }

    /// A notice of breakglass.
    pub(super) const fn is_breakglass(&self) -> bool {
        self.step.is_breakglass()
    }

    /// Delivers it and reports; a failure is tried again by the core.
    pub(super) async fn carry_out(self, shell: &Shell) {
        let entry = self.entry;
        let failed = match tokio::time::timeout(DELIVERY, self.hand_over(shell)).await {
            Ok(Ok(())) => return shell.send(Input::Delivered { entry }).await,
            Ok(Err(failed)) => failed,
            Err(_) => Failure { error: "took too long".into(), wait: 0, forever: false },
        };
        let Failure { error, wait, forever } = failed;
        tracing::warn!(%entry, step = self.step.summary(), error, "not delivered");
        shell
            .send(if forever {
                Input::GivenUp { entry, why: error }
            } else {
                Input::NotDelivered { entry, error, wait }
            })
            .await;
    }

    async fn hand_over(&self, shell: &Shell) -> Result<(), Failure> {
        let tracker = shell.tracker();
        match &self.step {
            OutboxStep::Label { issue, label } => tracker.set_label(issue, *label).await,
            OutboxStep::Comment { issue, text, .. } => {
                tracker.comment(issue, self.entry, text).await
            }
            OutboxStep::Close { issue } => tracker.close(issue).await,
            OutboxStep::Progress { issue } => match &self.text {
                Some(text) => tracker.progress(issue, text).await,
                None => Ok(()),
            },
            OutboxStep::Notify { what, sink: None, .. } => {
                // Nobody may be attached; the inbox and the brief have it as well.
                let _ = shell.notices.send(terminal_notice(what));
                Ok(())
            }
            OutboxStep::Notify { what, sink: Some(name), .. } => {
                let sinks = shell.outside().sinks.clone();
                let (run, link) = &self.about;
                let message = OutgoingNotice::new(what, run.as_deref(), link.clone(), sinks.open());
                return match sinks.send(name, &message).await {
                    SendOutcome::Delivered => Ok(()),
                    SendOutcome::Dropped(error) => Err(Failure { error, wait: 0, forever: true }),
                    SendOutcome::Retry(seconds, error) => {
                        Err(Failure { error, wait: seconds * 1000, forever: false })
                    }
                };
            }
        }
        .map_err(|error| {
            let wait = match &error {
                TrackerError::GitHub(ApiError::Limited { seconds }) => {
                    i64::try_from(*seconds).unwrap_or(3600) * 1000
                }
                _ => 0,
            };
            Failure { error: chain(&error), wait, forever: false }
        })
    }
}
