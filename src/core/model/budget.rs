//! Money and tokens: the units of spend, their sums, and the test whether a turn still fits under a
//! limit. The dispatch predicate and the lifecycle call [`fits`]; agents report [`Spend`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in millionths of a US dollar, so that sums are exact.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Converts dollars as a person writes them; a figure that is not finite and positive becomes
    /// 0.
    #[must_use]
    pub fn from_usd(usd: f64) -> Self {
        if usd.is_finite() && usd > 0.0 {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the cast saturates, which is right for a limit"
            )]
            Self((usd * 1e6).round() as i64)
        } else {
            Self(0)
        }
    }

    /// The amount in dollars, for a reader outside of afk.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "a double has all amounts below nine billion dollars"
    )]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The sum of both amounts, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:02}", self.0 / 1_000_000, (self.0 % 1_000_000).abs() / 10_000)
    }
}

/// The most money that one report of an agent may name: 1000 dollars. The most expensive calls of a
/// model cost a few dollars, and whole turns some hundred. Without a bound a single invented figure
/// would use up the day's budget, and no other run would start.
const MOST_REPORTED: MicroUsd = MicroUsd(1_000_000_000);
/// The most tokens that one report of an agent may name, in each direction.
const MOST_TOKENS: u64 = 1_000_000_000;

/// The tokens and money spent by a turn, a run or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spend {
    /// Tokens read by the model.
    pub tokens_in: u64,
    /// Tokens written by the model.
    pub tokens_out: u64,
    /// Money, as the agent reports it or as afk prices its tokens.
    pub usd: MicroUsd,
    /// The part of `usd` that is an estimate, priced from tokens.
    #[serde(default)]
    pub estimated: MicroUsd,
    /// The part of the tokens that is an estimate, for an agent that does not report them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated_tokens: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Spend {
    /// Adds the spend since the last report.
    pub fn add(&mut self, more: Self) {
        self.tokens_in = self.tokens_in.saturating_add(more.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(more.tokens_out);
        self.usd = self.usd.plus(more.usd);
        self.estimated = self.estimated.plus(more.estimated);
        self.estimated_tokens = self.estimated_tokens.saturating_add(more.estimated_tokens);
    }

    /// Whether an agent can have spent this since its last report. afk ignores a report that is not
    /// plausible.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let money = MicroUsd(0)..=MOST_REPORTED;
        money.contains(&self.usd)
            && money.contains(&self.estimated)
            && self.tokens_in.max(self.tokens_out) <= MOST_TOKENS
    }

    /// Money where there is any, otherwise tokens, as under a flat plan; marked with `~` where it is an
    /// estimate.
    #[must_use]
    pub fn summary(&self) -> String {
        let tokens = self.tokens_in.saturating_add(self.tokens_out);
        if self.usd.0 > 0 {
            format!("{}{}", if self.estimated.0 > 0 { "~" } else { "" }, self.usd)
        } else if tokens > 0 {
            let mark = if self.estimated_tokens > 0 { "~" } else { "" };
            if tokens >= 10_000 {
                format!("{mark}{}k tok", tokens / 1_000)
            } else {
                format!("{mark}{tokens} tok")
            }
        } else {
            self.usd.to_string()
        }
    }
}

/// Whether a turn that may cost `reserve` fits under `limit`, given the amount already `spent` and
/// the amount `reserved` for the turns that are running. Without a limit every turn fits.
#[must_use]
pub fn fits(
    limit: Option<MicroUsd>,
    spent: MicroUsd,
    reserved: MicroUsd,
    reserve: MicroUsd,
) -> bool {
    limit.is_none_or(|limit| spent < limit && spent.plus(reserved).plus(reserve) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_usd_is_exact_and_maps_odd_figures_to_zero() {
        assert_eq!(MicroUsd::from_usd(0.1).plus(MicroUsd::from_usd(0.2)), MicroUsd(300_000));
        assert_eq!(MicroUsd::from_usd(12.345).to_string(), "$12.34");
        for odd in [-1.0, f64::NAN, f64::INFINITY, 0.0] {
            assert_eq!(MicroUsd::from_usd(odd), MicroUsd(0));
        }
    }

    #[test]
    fn invented_figures_are_not_plausible() {
        let spend = |usd: f64, tokens| Spend {
            usd: MicroUsd::from_usd(usd),
            tokens_in: tokens,
            ..Spend::default()
        };
        for (usd, tokens, plausible) in [
            (0.0, 0, true),
            (999.0, 900_000_000, true),
            (1e308, 0, false),
            (1001.0, 0, false),
            (0.0, u64::MAX, false),
        ] {
            assert_eq!(spend(usd, tokens).is_plausible(), plausible, "{usd} {tokens}");
        }
        assert!(!Spend { usd: MicroUsd(-1), ..Spend::default() }.is_plausible());
    }

    #[test]
    fn turn_fits_only_beside_the_reserved_amount() {
        let m = MicroUsd;
        for (limit, spent, reserved, reserve, ok) in [
            (None, 999, 999, 999, true),
            (Some(10), 0, 0, 10, true),
            (Some(10), 1, 0, 10, false),
            (Some(10), 0, 5, 6, false),
            (Some(10), 10, 0, 0, false),
            (Some(0), 0, 0, 0, false),
        ] {
            let limit = limit.map(MicroUsd);
            assert_eq!(fits(limit, m(spent), m(reserved), m(reserve)), ok);
        }
    }
}
