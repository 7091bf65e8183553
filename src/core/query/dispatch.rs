//! The dispatch predicate: whether an issue may start, why not, and in which order issues are
//! considered. `step::admission` asks after every input that can change the answer.

use crate::fleet::Fleet;
use crate::model::budget::fits;
use crate::model::id::IssueKey;
use crate::model::issue::{Arming, BlockerState, Issue};
use crate::model::ledger::Reason;
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::model::run::urgency;
use crate::model::time::Timestamp;

/// The sort key of dispatch: priority ("none" last), then age, then number.
#[must_use]
pub fn order(issue: &Issue) -> (i64, Timestamp, u64, &IssueKey) {
    (urgency(issue.priority), issue.created, issue.key.number, &issue.key)
}

/// Why `issue` may or may not start now. The first rule that applies gives the reason, so the rules
/// go from lasting reasons (the issue has ended), through forbidding ones, to passing ones.
#[must_use]
pub fn consider(fleet: &Fleet, now: Timestamp, issue: &Issue) -> Reason {
    let last = fleet.last_run.get(&issue.key).and_then(|id| fleet.runs.get(id));
    if let Some(run) = last
        && run.live()
    {
        return Reason::Running { run: run.id };
    }
    if !issue.open {
        return Reason::Closed;
    }
    if let Some(run) = last
        && let (Some(outcome), Some(ended)) = (run.progress.outcome, run.progress.ended)
    {
        // Both times are the tracker's, whose clock can be ahead of ours or behind it. Ours counts
        // only where the arming that the run has used is unknown.
        let used = run.progress.armed.unwrap_or(ended);
        let armed_again =
            matches!(&issue.arming, Arming::Trusted { at, .. } if *at > used) && !issue.needs_human;
        if !armed_again {
            return Reason::Ended { run: run.id, outcome };
        }
    }
    if !fleet.policy.allowlist.contains(&issue.key.repo) {
        return Reason::NotAllowed { repo: issue.key.repo.clone() };
    }
    if issue.needs_human {
        return Reason::NeedsHuman;
    }
    // A label of ours that is not removed yet is no claim of another afk.
    let ours = |entry: &OutboxEntry| matches!(&entry.step, OutboxStep::Label { issue: of, .. } if *of == issue.key);
    if issue.in_progress && !fleet.outbox.values().any(ours) {
        return Reason::ClaimedElsewhere;
    }
    match &issue.arming {
        Arming::NotReady => return Reason::NotReady,
        Arming::Untrusted { by } => return Reason::Untrusted { by: by.clone() },
        Arming::Unknown { why } => return Reason::ArmingUnknown { why: why.clone() },
        Arming::Hold { why } => return Reason::Hold { why: why.clone() },
        Arming::Trusted { .. } => {}
    }
    let blocking: Vec<String> = issue
        .blockers
        .iter()
        .filter_map(|blocker| {
            let name = blocker.reference.clean_line();
            match blocker.state {
                BlockerState::Open => Some(name),
                BlockerState::Unreadable => Some(format!("{name} (unreadable)")),
                BlockerState::Cycle => Some(format!("{name} (a cycle)")),
                BlockerState::Closed => None,
            }
        })
        .collect();
    if !blocking.is_empty() {
        return Reason::Blocked { by: blocking };
    }
    if fleet.kill_switch() {
        return Reason::KillSwitch;
    }
    if let Some(holder) = fleet.locks.get(&issue.key.repo) {
        let frozen = fleet.runs.get(holder).is_some_and(|run| !run.live());
        return if frozen {
            Reason::RepoFrozen { run: *holder }
        } else {
            Reason::RepoBusy { run: *holder }
        };
    }
    if let Some((cause, _)) = fleet.breaker.open()
        && (fleet.paused(now) || !fleet.live.is_empty())
    {
        return Reason::Breaker { cause: cause.clone() };
    }
    if let Some(cause) = fleet.outage_of(&issue.key.repo) {
        return Reason::Outage { cause: cause.clone() };
    }
    let policy = &fleet.policy;
    let spent = fleet.books.day(now).usd;
    if !fits(policy.day_limit, spent, fleet.reserved(), policy.turn_reserve) {
        return Reason::OverBudget;
    }
    if queue_full(fleet) {
        return Reason::QueueFull;
    }
    Reason::Eligible
}

/// Whether the waiting runs reach the policy's queue depth.
#[must_use]
pub fn queue_full(fleet: &Fleet) -> bool {
    fleet.queue.len() >= fleet.policy.max_queue_depth as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::budget::{MicroUsd, Spend};
    use crate::model::event::Event;
    use crate::model::gate_report::ChangeClass;
    use crate::model::id::{Actor, Repo, RunId};
    use crate::model::issue::{Blocker, Priority};
    use crate::model::run::{Outcome, Work};

    const NOW: Timestamp = Timestamp(10);

    fn key(n: u64) -> IssueKey {
        IssueKey { repo: Repo::parse("acme/widget").unwrap(), number: n }
    }

    fn ready(n: u64) -> Issue {
        Issue {
            key: key(n),
            title: "t".into(),
            link: None,
            body: "b".into(),
            priority: None,
            created: Timestamp(n.cast_signed()),
            arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) },
            blockers: vec![],
            open: true,
            class: ChangeClass::default(),
            needs_human: false,
            in_progress: false,
            labels: vec![],
        }
    }

    fn fleet() -> Fleet {
        let mut fleet = Fleet::default();
        fleet.policy.kill_switch = false;
        fleet.policy.allowlist.insert(Repo::parse("acme/widget").unwrap());
        fleet
    }

    fn claim(fleet: &mut Fleet, run: u64, n: u64) {
        let work = Work::Issue { key: key(n), title: "t".into() };
        fleet.apply(
            Timestamp(1),
            &Event::Claimed { run: RunId(run), work, priority: None, term: 0 },
        );
    }

    fn end(fleet: &mut Fleet, run: u64, at: i64, outcome: Outcome) {
        let event = Event::Ended { run: RunId(run), outcome, why: "".into() };
        fleet.apply(Timestamp(at), &event);
    }

    fn blocked_by(state: BlockerState) -> Issue {
        Issue { blockers: vec![Blocker { reference: "#9".into(), state }], ..ready(1) }
    }

    #[test]
    fn default_policy_dispatches_nothing() {
        assert!(matches!(consider(&Fleet::default(), NOW, &ready(1)), Reason::NotAllowed { .. }));
        let mut allowed = Fleet::default();
        allowed.policy.allowlist.insert(key(1).repo);
        assert_eq!(consider(&allowed, NOW, &ready(1)), Reason::KillSwitch);
    }

    #[test]
    fn each_rule_gives_its_reason() {
        assert_eq!(consider(&fleet(), NOW, &ready(1)), Reason::Eligible);
        let closed = Issue { open: false, ..ready(1) };
        assert_eq!(consider(&fleet(), NOW, &closed), Reason::Closed);
        let human = Issue { needs_human: true, ..ready(1) };
        assert_eq!(consider(&fleet(), NOW, &human), Reason::NeedsHuman);
        let with = |arming| Issue { arming, ..ready(1) };
        assert_eq!(consider(&fleet(), NOW, &with(Arming::NotReady)), Reason::NotReady);
        let by = Actor("mallory".into());
        let untrusted = with(Arming::Untrusted { by: by.clone() });
        assert_eq!(consider(&fleet(), NOW, &untrusted), Reason::Untrusted { by });
        let unknown = with(Arming::Unknown { why: "x".into() });
        assert_eq!(consider(&fleet(), NOW, &unknown), Reason::ArmingUnknown { why: "x".into() });
        let hold = with(Arming::Hold { why: "x".into() });
        assert_eq!(consider(&fleet(), NOW, &hold), Reason::Hold { why: "x".into() });

        for (state, blocks) in [
            (BlockerState::Open, true),
            (BlockerState::Closed, false),
            (BlockerState::Unreadable, true),
            (BlockerState::Cycle, true),
        ] {
            let reason = consider(&fleet(), NOW, &blocked_by(state));
            assert_eq!(matches!(reason, Reason::Blocked { .. }), blocks, "{state:?}");
        }
    }

    #[test]
    fn frozen_run_keeps_its_repository_until_it_is_released() {
        let mut fleet = fleet();
        claim(&mut fleet, 1, 1);
        assert_eq!(consider(&fleet, NOW, &ready(1)), Reason::Running { run: RunId(1) });
        assert_eq!(consider(&fleet, NOW, &ready(2)), Reason::RepoBusy { run: RunId(1) });
        end(&mut fleet, 1, 5, Outcome::Frozen);
        assert_eq!(consider(&fleet, NOW, &ready(2)), Reason::RepoFrozen { run: RunId(1) });
        let by = Actor("ana".into());
        fleet.apply(Timestamp(6), &Event::LockReleased { run: RunId(1), by });
        assert_eq!(consider(&fleet, NOW, &ready(2)), Reason::Eligible);
    }

    #[test]
    fn an_outcome_is_final_until_armed_again() {
        let mut fleet = fleet();
        claim(&mut fleet, 1, 1);
        end(&mut fleet, 1, 5, Outcome::Done);
        let ended = Reason::Ended { run: RunId(1), outcome: Outcome::Done };
        assert_eq!(consider(&fleet, NOW, &ready(1)), ended);
        let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(6) };
        let again = Issue { arming, ..ready(1) };
        assert_eq!(consider(&fleet, NOW, &again), Reason::Eligible);
        let labelled = Issue { needs_human: true, ..again };
        assert_eq!(consider(&fleet, NOW, &labelled), ended);
    }

    #[test]
    fn arming_starts_one_run_even_if_the_trackers_clock_is_ahead() {
        let mut fleet = fleet();
        let armed = |at| Issue {
            arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(at) },
            ..ready(1)
        };
        fleet.apply(Timestamp(1), &Event::IssueSeen { issue: Box::new(armed(100)) });
        claim(&mut fleet, 1, 1);
        end(&mut fleet, 1, 5, Outcome::Done);
        let ended = Reason::Ended { run: RunId(1), outcome: Outcome::Done };
        assert_eq!(consider(&fleet, NOW, &armed(100)), ended);
        assert_eq!(consider(&fleet, NOW, &armed(101)), Reason::Eligible);
    }

    #[test]
    fn budget_and_queue_depth_hold_back_issues() {
        let mut fleet = fleet();
        fleet.policy.day_limit = Some(MicroUsd(10));
        fleet.policy.turn_reserve = MicroUsd(4);
        assert_eq!(consider(&fleet, NOW, &ready(1)), Reason::Eligible);
        fleet.books.book(Timestamp(0), None, Spend { usd: MicroUsd(7), ..Spend::default() });
        assert_eq!(consider(&fleet, NOW, &ready(1)), Reason::OverBudget);
        fleet.policy.day_limit = None;
        fleet.policy.max_queue_depth = 0;
        assert_eq!(consider(&fleet, NOW, &ready(1)), Reason::QueueFull);
    }

    #[test]
    fn order_is_by_priority_then_age_then_number() {
        let mut issues = [
            Issue { created: Timestamp(1), ..ready(1) },
            Issue { created: Timestamp(9), priority: Some(Priority(3)), ..ready(2) },
            Issue { created: Timestamp(8), priority: Some(Priority(0)), ..ready(3) },
            Issue { created: Timestamp(1), ..ready(4) },
            Issue { created: Timestamp(0), ..ready(5) },
        ];
        issues.sort_by(|a, b| order(a).cmp(&order(b)));
        assert_eq!(issues.map(|i| i.key.number), [3, 2, 5, 1, 4]);
    }
}
