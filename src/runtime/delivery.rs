//! Delivery of the outbox: labels, comments and closings to the tracker, notices to terminals and
//! sinks.
//!
//! The core retries an entry that is reported as not delivered, so delivery must be idempotent:
//! the adapters of trackers find a comment of an earlier attempt by its mark.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, outages};
use crate::core::fleet::Fleet;
use crate::core::model::id::OutboxId;
use crate::core::model::input::Input;
use crate::core::model::outbox::FailedDelivery;
use crate::core::model::outbox::OutboxStep;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::query::progress;
use crate::error::chain;
use crate::github::ApiError;
use crate::notify::terminal::terminal_notice;
use crate::notify::{OutgoingNotice, SendOutcome};
use crate::redact::Redactor;
use crate::tracker::TrackerError;

/// The longest that one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An entry of the outbox, with the parts of the fleet that its delivery needs.
#[derive(Debug)]
pub(super) struct Delivery {
    entry: OutboxId,
    step: OutboxStep,
    /// The text, if the entry is a progress comment.
    text: Option<String>,
    /// The arming that a progress comment claims its issue for, while a run works on it.
    claim: Option<Timestamp>,
    /// The run and the link of its issue, if the entry is a notice.
    about: (Option<Arc<Run>>, Option<String>),
}

/// Why an entry was not delivered.
struct DeliveryError {
    error: String,
    /// The shortest time until the next attempt, in milliseconds.
    wait: i64,
    /// No attempt will ever succeed.
    permanent: bool,
    /// The attempt may have taken effect, or may still do so.
    doubtful: bool,
    /// Another afk has claimed the issue first.
    is_claim_lost: bool,
}

impl DeliveryError {
    /// A failure that a later attempt may mend.
    const fn passing(error: String, wait: i64) -> Self {
        Self { error, wait, permanent: false, doubtful: false, is_claim_lost: false }
    }
}

impl Delivery {
    pub(super) fn new(entry: OutboxId, step: OutboxStep, fleet: &Fleet) -> Self {
        let text = match &step {
            OutboxStep::Progress { issue } => progress::text(fleet, issue),
            _ => None,
        };
        let claim = step.issue().and_then(|issue| {
            let run = fleet.last_run.get(issue).and_then(|run| fleet.runs.get(run))?;
            run.progress.armed.filter(|_| run.live() && !run.issue.detached)
        });
        let about = match &step {
            OutboxStep::Notify { run, .. } => {
                let run = run.and_then(|run| fleet.runs.get(&run).cloned());
                let issue = run.as_ref().and_then(|run| fleet.issues.get(run.work.issue()?));
                let link = issue.and_then(|issue| issue.link.as_ref());
                (run, link.map(|link| link.as_received().to_owned()))
            }
            _ => (None, None),
        };
        Self { entry, step, text, claim, about }
    }

    /// Whether the entry is a notice of breakglass.
    pub(super) const fn is_breakglass(&self) -> bool {
        self.step.is_breakglass()
    }

    /// Delivers the entry and reports the result to the core, which schedules retries.
    pub(super) async fn carry_out(self, context: &Context) {
        let entry = self.entry;
        let failed = match tokio::time::timeout(TIMEOUT, self.deliver(context)).await {
            Ok(Ok(())) => return context.send(Input::Delivered { entry }).await,
            Ok(Err(failed)) => failed,
            Err(_) => DeliveryError {
                doubtful: true,
                ..DeliveryError::passing("took too long".into(), 0)
            },
        };
        let DeliveryError { error, wait, permanent, doubtful, is_claim_lost } = failed;
        if is_claim_lost {
            return context.send(Input::ClaimLost { entry }).await;
        }
        tracing::warn!(%entry, step = self.step.summary(), error, "the entry was not delivered");
        context
            .send(if permanent {
                Input::GivenUp { entry, why: error }
            } else {
                Input::NotDelivered(FailedDelivery { entry, error, wait, doubtful })
            })
            .await;
    }

    async fn deliver(&self, context: &Context) -> Result<(), DeliveryError> {
        // An entry may hold text from before afk knew a secret.
        let (tracker, redactor) = (context.tracker(), Redactor::default());
        match &self.step {
            OutboxStep::Label { issue, label } => tracker.set_label(issue, *label).await,
            OutboxStep::Comment { issue, text, .. } => {
                tracker.comment(issue, self.entry, &redactor.clean(text)).await
            }
            OutboxStep::Close { issue } => tracker.close(issue).await,
            OutboxStep::Tidy { issue, of, .. } => tracker.tidy(issue, *of).await,
            OutboxStep::Progress { issue } => match &self.text {
                Some(text) => tracker.progress(issue, &redactor.clean(text), self.claim).await,
                None => Ok(()),
            },
            OutboxStep::Notify { what, sink: None, .. } => {
                // Sending fails only without a terminal; the inbox and the brief have it as well.
                let _ = context.notices.send(terminal_notice(what));
                Ok(())
            }
            OutboxStep::Notify { what, sink: Some(name), .. } => {
                let sinks = context.services().sinks.clone();
                let (run, link) = &self.about;
                let mut message =
                    OutgoingNotice::new(what, run.as_deref(), link.clone(), sinks.config());
                message.text = redactor.clean(&message.text).into_owned();
                message.title = redactor.clean(&message.title).into_owned();
                return match sinks.send(name, &message).await {
                    SendOutcome::Delivered => Ok(()),
                    SendOutcome::Dropped(error) => {
                        Err(DeliveryError { permanent: true, ..DeliveryError::passing(error, 0) })
                    }
                    SendOutcome::Retry(seconds, error) => {
                        Err(DeliveryError::passing(error, seconds * 1000))
                    }
                };
            }
        }
        .map_err(|error| {
            outages::report(context, &error);
            let wait = match &error {
                TrackerError::GitHub(ApiError::Limited { seconds }) => {
                    i64::try_from(*seconds).unwrap_or(3600) * 1000
                }
                _ => 0,
            };
            DeliveryError {
                permanent: error.is_permanent(),
                doubtful: error.is_doubtful(),
                is_claim_lost: matches!(error, TrackerError::ClaimedElsewhere(_)),
                ..DeliveryError::passing(chain(&error), wait)
            }
        })
    }
}
