//! The gate's report: an open gate leads to a push, a closed one sends its reason back to the agent,
//! and a human is asked where the tests can't run or a change needs an approval. `lifecycle` calls
//! it, and the table [`crate::tables::gate`] decides.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::approval::EscalationKind;
use crate::model::event::Event;
use crate::model::gate_report::{ChangeClass, GateReport, GateRun, TestExit};
use crate::model::id::{RunId, Sha};
use crate::model::plural::plural;
use crate::model::stage::Phase;
use crate::model::untrusted::{Untrusted, first_sentence};
use crate::model::verdict::{Evidence, Fact, FactKind, Verdict};
use crate::step::lifecycle::LOG_TAIL;
use crate::step::stepper::Stepper;
use crate::tables::gate::{Comparison, GateQuestion, GateVerdict, HUNK_GROUPS, is_needed};

/// The most names of one kind that a proof lists.
const NAMES_KEPT: usize = 100;

impl Stepper<'_> {
    pub(super) fn gate_reported(&mut self, id: RunId, report: &GateReport) {
        match report.verdict() {
            GateVerdict::Open => self.gate_opened(id, report),
            GateVerdict::Ask(question) => self.ask_for_approval(id, &question),
            GateVerdict::Closed { why, or_ask } => {
                let why = why.tail(LOG_TAIL);
                let leaks = report.leaks().to_vec();
                self.emit(Event::GateClosed { run: id, why: why.clone(), leaks });
                let limit = self.fleet().policy.gate_retries;
                if self.run(id).is_none_or(|r| r.progress.gate_closed <= limit) {
                    self.begin(id, Activity::Turn { prompt: TurnPrompt::GateClosed { why } });
                } else if let Some(question) = or_ask {
                    self.ask_for_approval(id, &question);
                } else {
                    let line = format!("the gate stayed closed {}", plural(limit + 1, "time"));
                    self.end_unfinished(id, &line, &why);
                }
            }
            GateVerdict::Broken(why) => self.end_without_tests(id, &why),
            // The runtime reports only once the table has decided.
            GateVerdict::Run(run) => {
                let why = format!("the gate ended before {}", run.summary());
                self.end_without_tests(id, &why.into());
            }
        }
    }

    /// Ends a run whose tests can prove nothing, with the first sentence of the cause as its reason.
    pub(super) fn end_without_tests(&mut self, id: RunId, why: &Untrusted) {
        let text = why.clean();
        self.end_unfinished(id, first_sentence(&text), &why.tail(LOG_TAIL));
    }

    fn ask_for_approval(&mut self, id: RunId, question: &GateQuestion) {
        self.emit(Event::ApprovalNeeded { run: id, digest: question.digest });
        self.end_for_human(id, EscalationKind::Approval, &question.line, &question.detail);
    }

    fn gate_opened(&mut self, id: RunId, report: &GateReport) {
        let comparison = Comparison::of(report);
        let evidence = |sha: &Sha, detail: String, facts| Evidence {
            verdict: Verdict::Green,
            sha: sha.clone(),
            at: self.at,
            detail: detail.into(),
            facts,
        };
        let red = evidence(
            &report.base,
            red_detail(report, comparison.as_ref()),
            red_facts(report, comparison.as_ref()),
        );
        let green = evidence(
            &report.head,
            green_detail(comparison.as_ref()),
            green_facts(report, comparison.as_ref()),
        );
        self.emit(Event::GateOpened { run: id, head: report.head.clone(), red, green });
        if report.change.is_exempt() {
            self.note(id, "exempt: only files changed that need no test");
        }
        self.reach(id, Phase::TestsRed);
        self.reach(id, Phase::TestsGreen);
        self.begin_push(id);
    }
}

fn red_detail(report: &GateReport, comparison: Option<&Comparison>) -> String {
    let files = plural(report.change.tests.len(), "test file");
    if report.change.is_exempt() {
        return "exempt: only files changed that need no test".into();
    }
    if let Some(names) = comparison.filter(|names| !names.fail_to_pass.is_empty()) {
        let count = names.fail_to_pass.len();
        let verb = if count == 1 { "fails" } else { "fail" };
        return format!("{} {verb} without the change", plural(count, "test"));
    }
    match report.of(GateRun::Red).last().map(|run| &run.exit) {
        Some(TestExit::Failed { code, .. }) => format!("{files} failed there, exit code {code}"),
        Some(TestExit::Died { how, .. }) => format!("{files} failed there: {}", how.clean_line()),
        _ => match report.rules.class {
            ChangeClass::Behaviour | ChangeClass::TestsChange => {
                "a test needs the change; a human approved it".into()
            }
            class => format!("none asked: the issue is labelled {}", class.as_str()),
        },
    }
}

fn green_detail(comparison: Option<&Comparison>) -> String {
    comparison.map_or_else(
        || "the tests passed there, exit code 0".into(),
        |names| {
            let new = names.fail_to_pass.len();
            format!("{new} failed before and pass, {} passed and still pass", names.pass_to_pass)
        },
    )
}

/// A fact for each of the first names.
fn named<'a>(kind: &FactKind, names: impl Iterator<Item = &'a Untrusted>) -> Vec<Fact> {
    names.take(NAMES_KEPT).map(|name| Fact::new(kind.clone(), name.clone())).collect()
}

fn red_facts(report: &GateReport, comparison: Option<&Comparison>) -> Vec<Fact> {
    let names = comparison.into_iter().flat_map(|names| &names.fail_to_pass);
    let mut facts = named(&FactKind::FailToPass, names.map(|name| &name.0));
    facts.extend(durations(report, &[GateRun::Baseline, GateRun::Red]));
    facts
}

fn green_facts(report: &GateReport, comparison: Option<&Comparison>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(names) = comparison {
        facts.push(Fact::new(FactKind::PassToPass, names.pass_to_pass.to_string()));
        facts.extend(named(&FactKind::Flaky, names.flaky.iter().map(|name| &name.0)));
    } else {
        facts.push(Fact::new(FactKind::Reservation, "by exit code only"));
        if !report.change.old_tests.is_empty() {
            let line = "old tests changed, and no names show what they no longer test";
            facts.push(Fact::new(FactKind::Reservation, line));
        }
    }
    if report.of(GateRun::Baseline).len() > 1 || report.of(GateRun::Green).len() > 1 {
        facts.push(Fact::new(FactKind::Reservation, "the tests are flaky: a run was repeated"));
    }
    if report.rules.approved.is_some() {
        facts.push(Fact::new(FactKind::Reservation, "an operator approved the change"));
    }
    let hunks = report.change.hunks.iter().take(HUNK_GROUPS).enumerate();
    let spare = hunks.filter(|(index, _)| is_needed(report, *index) == Some(false));
    facts.extend(named(&FactKind::NotNeeded, spare.map(|(_, place)| place)));
    let without = (0..HUNK_GROUPS).map(GateRun::Without);
    let runs: Vec<GateRun> =
        [GateRun::Green, GateRun::OldTests].into_iter().chain(without).collect();
    facts.extend(durations(report, &runs));
    if !report.sandbox.is_empty() {
        facts.push(Fact::new(FactKind::Sandbox, report.sandbox.clone()));
    }
    facts
}

fn durations(report: &GateReport, runs: &[GateRun]) -> Vec<Fact> {
    let each = runs.iter().flat_map(|run| report.of(*run).iter().map(move |done| (run, done)));
    each.map(|(run, done)| {
        Fact::new(FactKind::Duration, format!("{}: {}", run.summary(), done.seconds()))
    })
    .collect()
}
