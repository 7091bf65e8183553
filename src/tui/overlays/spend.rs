//! Spend: what the last days, the repositories and the runs have cost, as bars against the limits, and how
//! the day will end at this pace.

use ratatui::text::Line;

use super::sheet::Sheet;
use crate::core::fleet::Fleet;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::time::Timestamp;
use crate::tui::action::SPEND;
use crate::tui::subject::short_key;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{column, width};

/// The days, repositories and runs that are listed.
const DAYS: usize = 31;
const REPOS: usize = 100;
const RUNS: usize = 200;
/// The part of a day, in milliseconds, before which its pace says nothing.
const TOO_EARLY: i64 = 60 * 60_000;
const DAY: i64 = 24 * 60 * 60_000;

pub(super) fn sheet() -> Sheet {
    Sheet::new("Spend", Some(SPEND), |scene, columns| {
        let chart = Chart { theme: scene.theme, columns };
        let fleet = &scene.snapshot.fleet;
        chart.lines(fleet, scene.now.max(fleet.last_event))
    })
}

/// The money that the day of `now` will have cost at its end, at the pace so far; none in its first hour.
fn forecast(spent: MicroUsd, now: Timestamp) -> Option<MicroUsd> {
    let elapsed = now.0.rem_euclid(DAY);
    if elapsed < TOO_EARLY {
        return None;
    }
    let whole = i128::from(spent.0) * i128::from(DAY) / i128::from(elapsed);
    Some(MicroUsd(i64::try_from(whole).unwrap_or(i64::MAX)))
}

/// Draws bars in a number of columns.
struct Chart<'a> {
    theme: &'a Theme,
    columns: usize,
}

impl Chart<'_> {
    fn lines(&self, fleet: &Fleet, now: Timestamp) -> Vec<Line<'static>> {
        let policy = &fleet.policy;
        let mut lines = vec![self.heading("By day (UTC); ~ = estimate")];
        let days: Vec<(String, Spend)> = fleet
            .books
            .days()
            .take(DAYS)
            .map(|(at, spend)| {
                let name = match now.day() - at.day() {
                    0 => "today".to_owned(),
                    1 => "yesterday".to_owned(),
                    days => format!("{days} days ago"),
                };
                (name, spend)
            })
            .collect();
        lines.extend(self.bars(&days, policy.day_soft_limit, policy.day_limit));
        lines.push(self.limits(fleet, now));
        lines.extend(self.forecast(fleet, now));
        lines.push(Line::default());
        lines.push(self.heading("By repository, the dearest first"));
        let mut repos: Vec<(String, Spend)> =
            fleet.books.repos().map(|(repo, spend)| (repo.to_string(), spend)).collect();
        repos.sort_by_key(|(_, spend)| std::cmp::Reverse((spend.usd, spend.tokens_in)));
        repos.truncate(REPOS);
        lines.extend(self.bars(&repos, None, None));
        lines.push(Line::default());
        lines.push(self.heading("By run, newest first"));
        let runs: Vec<(String, Spend)> = fleet
            .runs
            .values()
            .rev()
            .take(RUNS)
            .map(|run| {
                let name = run
                    .work
                    .issue()
                    .map_or_else(|| run.work.repo().to_string(), |key| short_key(key, fleet));
                (format!("{} {name}", run.id), run.spend.total)
            })
            .collect();
        lines.extend(self.bars(&runs, None, policy.run_limit));
        lines
    }

    fn heading(&self, text: &str) -> Line<'static> {
        Line::from(piece(format!(" {text}"), self.theme, Tone::Title))
    }

    /// The limits in one line, as far as there are any.
    fn limits(&self, fleet: &Fleet, now: Timestamp) -> Line<'static> {
        let policy = &fleet.policy;
        let limits = [
            ("soft", policy.day_soft_limit),
            ("hard", policy.day_limit),
            ("a run", policy.run_limit),
        ];
        let named: Vec<String> = limits
            .into_iter()
            .filter_map(|(name, limit)| limit.map(|limit| format!("{name} {limit}")))
            .collect();
        let reserved = fleet.reserved();
        let aside = if reserved.0 > 0 {
            format!("; {reserved} set aside for live runs")
        } else {
            String::new()
        };
        let limits = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
        let left = policy.day_limit.map_or_else(String::new, |limit| {
            let left = MicroUsd((limit.0 - fleet.books.day(now).usd.0).max(0));
            format!("; {left} left today")
        });
        self.text_line(&format!("  Limits: {limits}{left}{aside}"), Tone::Dim)
    }

    /// How the day will end, with the limit that it will pass.
    fn forecast(&self, fleet: &Fleet, now: Timestamp) -> Option<Line<'static>> {
        let whole = forecast(fleet.books.day(now).usd, now)?;
        let policy = &fleet.policy;
        let passed = |limit: Option<MicroUsd>| limit.is_some_and(|limit| whole > limit);
        let (tone, what) = if passed(policy.day_limit) {
            (Tone::Bad, ": over the hard limit, nothing new will start")
        } else if passed(policy.day_soft_limit) {
            (Tone::Warn, ": over the soft limit")
        } else {
            (Tone::Dim, "")
        };
        Some(self.text_line(&format!("  At this pace the day ends at {whole}{what}"), tone))
    }

    fn text_line(&self, text: &str, tone: Tone) -> Line<'static> {
        Line::from(piece(column(text, self.columns, self.theme.marks.cut), self.theme, tone))
    }

    /// A bar for each entry, against the hard limit or else against the largest entry. A bar beyond a limit
    /// has a mark as well as a colour.
    fn bars(
        &self,
        entries: &[(String, Spend)],
        soft: Option<MicroUsd>,
        hard: Option<MicroUsd>,
    ) -> Vec<Line<'static>> {
        if entries.is_empty() {
            return vec![self.text_line("  nothing yet", Tone::Dim)];
        }
        let (theme, cut) = (self.theme, self.theme.marks.cut);
        let name = (self.columns / 4).clamp(12, 32);
        let most = entries.iter().map(|(_, spend)| spend.usd.0).max().unwrap_or(0);
        let whole = most.max(hard.map_or(0, |limit| limit.0)).max(1);
        let full = theme.marks.bars[7];
        entries
            .iter()
            .map(|(label, spend)| {
                let over = |limit: Option<MicroUsd>| limit.is_some_and(|limit| spend.usd > limit);
                let (tone, mark) = if over(hard) {
                    (Tone::Bad, theme.marks.human)
                } else if over(soft) {
                    (Tone::Warn, theme.marks.human)
                } else {
                    (Tone::Accent, " ")
                };
                let tokens = spend.tokens_in.saturating_add(spend.tokens_out);
                let figure = match (spend.usd.0, tokens) {
                    (0, _) => spend.summary(),
                    (_, tokens) if self.columns >= 76 => {
                        format!("{} · {}k tok", spend.summary(), tokens / 1000)
                    }
                    _ => spend.summary(),
                };
                let room = self.columns.saturating_sub(name + 5 + width(&figure));
                let share = i128::from(spend.usd.0.max(0)) * i128::try_from(room).unwrap_or(0);
                let filled = usize::try_from(share / i128::from(whole)).unwrap_or(0).min(room);
                let filled = if spend.usd.0 > 0 { filled.max(1) } else { filled };
                Line::from(vec![
                    piece(format!("  {}", column(label, name, cut)), theme, Tone::Text),
                    piece(format!(" {mark}"), theme, tone),
                    piece(full.repeat(filled), theme, tone),
                    piece(format!(" {figure}"), theme, Tone::Text),
                ])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecast_extends_the_pace_of_the_day() {
        let at = |hours: i64| Timestamp(50 * DAY + hours * 60 * 60_000);
        assert_eq!(forecast(MicroUsd(3_000_000), at(6)), Some(MicroUsd(12_000_000)));
        assert_eq!(forecast(MicroUsd(0), at(6)), Some(MicroUsd(0)));
        assert_eq!(forecast(MicroUsd(1), at(0)), None);
        assert_eq!(forecast(MicroUsd(i64::MAX), at(1)), Some(MicroUsd(i64::MAX)));
    }
}
