//! The red-first gate's report: an open gate leads to a push, a closed one sends its reason back to
//! the agent, and one that can't run the tests goes to a human. `lifecycle` calls it.

use crate::model::event::Event;
use crate::model::id::{RunId, Sha};
use crate::model::plural::plural;
use crate::model::run::{Activity, TurnPrompt};
use crate::model::stage::Phase;
use crate::model::verdict::{Evidence, GateReport, GateSide, GateVerdict, Verdict};
use crate::step::lifecycle::LOG_TAIL;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    pub(super) fn gate_reported(&mut self, id: RunId, report: &GateReport) {
        match report.verdict() {
            GateVerdict::Open => self.gate_opened(id, report),
            GateVerdict::Closed(why) => {
                let why = why.tail(LOG_TAIL);
                let leaks = report.leaks().to_vec();
                self.emit(Event::GateClosed { run: id, why: why.clone(), leaks });
                let limit = self.fleet().policy.gate_retries;
                if self.run(id).is_some_and(|r| r.progress.gate_closed > limit) {
                    let line = format!("the gate stayed closed {}", plural(limit + 1, "time"));
                    self.end_unfinished(id, &line, &why);
                } else {
                    self.begin(id, Activity::Turn { prompt: TurnPrompt::GateClosed { why } });
                }
            }
            GateVerdict::Broken(why) => {
                self.end_unfinished(id, "the gate can't run the tests", &why);
            }
        }
    }

    fn gate_opened(&mut self, id: RunId, report: &GateReport) {
        let evidence = |verdict, sha: &Sha, detail: String| Evidence {
            verdict,
            sha: sha.clone(),
            at: self.at,
            detail: detail.into(),
            facts: Vec::new(),
        };
        let (base, head) = (&report.base, &report.head);
        let red = match &report.on_base {
            GateSide::Exempt => {
                evidence(Verdict::Green, base, "exempt: only exempt files changed".into())
            }
            GateSide::Failed { code, .. } => {
                let files = plural(report.tests.len(), "test file");
                evidence(Verdict::Green, base, format!("{files} failed there, exit code {code}"))
            }
            _ => evidence(Verdict::Unknown, base, String::new()),
        };
        let green = evidence(Verdict::Green, head, "the tests passed there, exit code 0".into());
        self.emit(Event::GateOpened { run: id, head: head.clone(), red, green });
        self.reach(id, Phase::TestsRed);
        self.reach(id, Phase::TestsGreen);
        self.begin(id, Activity::Push);
    }
}
