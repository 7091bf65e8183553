//! The budget of a turn: reports of usage become money, and an estimate stands in for the reports that
//! have not come yet, so that the budget holds within the turn.
//!
//! An estimate alone ends no turn. It leads to a checkpoint: afk interrupts the turn, which makes the
//! agent report, and sends it on in the same conversation if the true figure is below the budget.

use super::{InterruptCause, TurnLoop};
use crate::agent::estimate::{ASSUMED_PRICE, price};
use crate::agent::{Tariff, UsageReports};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::Cost;

/// The most checkpoints of a turn.
const CHECKPOINTS: u32 = 8;

/// The message that sends an agent on after a checkpoint.
const GO_ON: &str = "The work was paused for a look at its cost. Continue where you stopped.";

/// The spending of a turn, and what its estimates were worth.
#[derive(Debug)]
pub(super) struct TurnBudget {
    pub(super) spent: MicroUsd,
    /// The truth divided by the estimate, as the reports showed.
    factor: f64,
    checkpoints: u32,
    /// The spending and the estimate at the last checkpoint.
    at_checkpoint: (MicroUsd, MicroUsd),
    /// The agent reports no money.
    is_unpriced: bool,
}

impl Default for TurnBudget {
    fn default() -> Self {
        Self {
            spent: MicroUsd(0),
            factor: 1.0,
            checkpoints: 0,
            at_checkpoint: (MicroUsd(0), MicroUsd(0)),
            is_unpriced: false,
        }
    }
}

/// What follows an interrupted turn at a checkpoint.
pub(super) enum Checkpoint {
    GoesOn(&'static str),
    Ends(TurnEnd),
}

impl TurnLoop<'_> {
    /// Turns a report of usage into money, and interrupts the turn once it is over its budget.
    pub(super) fn book(&mut self, mut spend: Spend) -> Spend {
        if self.protocol.usage_reports() == UsageReports::LastRequest {
            spend = self.estimate.complete(spend);
        }
        self.estimate.reported();
        match self.spec.tariff {
            Tariff::Reported => {}
            Tariff::Flat => spend.usd = MicroUsd(0),
            Tariff::Priced { input, output } if spend.usd.0 == 0 => {
                spend.usd = price(spend, (input, output));
                spend.estimated = spend.usd;
            }
            Tariff::Priced { .. } => {}
        }
        // The runtime reports and drops a figure that can't be.
        if spend.is_plausible() {
            self.budget.spent = self.budget.spent.plus(spend.usd);
        }
        if self.interrupted.is_none() && self.is_over_budget() {
            self.interrupt(InterruptCause::Budget);
        }
        spend
    }

    fn is_over_budget(&self) -> bool {
        self.spec.budget.is_some_and(|most| self.budget.spent > most)
    }

    /// The prices by which an estimate becomes money; none where only the agent's own figures count.
    fn estimate_prices(&self) -> Option<(f64, f64)> {
        let can = self.protocol.capabilities();
        let is_late = self.protocol.usage_reports() != UsageReports::Each;
        match self.spec.tariff {
            Tariff::Priced { input, output } if is_late => Some((input, output)),
            Tariff::Reported if is_late && can.cost == Cost::Usd && !self.budget.is_unpriced => {
                Some(ASSUMED_PRICE)
            }
            _ => None,
        }
    }

    /// Interrupts the turn for a checkpoint once its spending with the estimate is over the budget.
    pub(super) fn check_estimate(&mut self) {
        let Some(most) = self.spec.budget else { return };
        if self.interrupted.is_some() || !self.requests.is_empty() {
            return;
        }
        let Some(prices) = self.estimate_prices() else { return };
        let estimated = price(self.estimate.unreported(), prices);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "amounts of money stay far below 2^52, and the cast saturates"
        )]
        let likely = MicroUsd((estimated.0 as f64 * self.budget.factor) as i64);
        if likely.0 > 0 && self.budget.spent.plus(likely) > most {
            self.budget.at_checkpoint = (self.budget.spent, estimated);
            self.interrupt(InterruptCause::Checkpoint);
        }
    }

    /// Compares the estimate with the agent's report, and decides whether the turn goes on.
    pub(super) async fn pass_checkpoint(&mut self, end: TurnEnd) -> Checkpoint {
        if end != TurnEnd::Interrupted {
            return Checkpoint::Ends(end);
        }
        self.budget.checkpoints += 1;
        let (before, estimated) = self.budget.at_checkpoint;
        let reported = self.budget.spent.0 - before.0;
        if reported > 0 && estimated.0 > 0 {
            #[allow(clippy::cast_precision_loss, reason = "amounts of money stay far below 2^52")]
            let factor = reported as f64 / estimated.0 as f64;
            self.budget.factor = factor.clamp(0.02, 50.0);
        } else if matches!(self.spec.tariff, Tariff::Priced { .. }) {
            // The agent reports nothing: the estimate stands.
            self.emit_estimate().await;
        } else {
            self.budget.is_unpriced = true;
            self.emit(AgentEvent::Notice {
                text: "the agent reports no cost, so the run's budget can't hold within a turn"
                    .into(),
            })
            .await;
        }
        if self.is_over_budget() || self.budget.checkpoints >= CHECKPOINTS {
            return Checkpoint::Ends(TurnEnd::Budget);
        }
        self.interrupted = None;
        self.estimate.reported();
        Checkpoint::GoesOn(GO_ON)
    }

    /// Books the estimate of what the agent never reported. A failed request costs nothing.
    pub(super) async fn emit_estimate(&mut self) {
        let books = match self.protocol.usage_reports() {
            UsageReports::Each => false,
            UsageReports::Turn | UsageReports::LastRequest => true,
            UsageReports::Never => matches!(self.spec.tariff, Tariff::Priced { .. }),
        };
        let mut spend = self.estimate.unreported();
        self.estimate.reported();
        if let Tariff::Priced { input, output } = self.spec.tariff {
            spend.usd = price(spend, (input, output));
            spend.estimated = spend.usd;
        }
        if books && spend != Spend::default() {
            self.emit(AgentEvent::Usage(spend)).await;
        }
    }
}
