//! The verdicts of the stages after the push: green begins the next stage, red grants a fix-forward
//! attempt within its two caps, and everything else is retried or goes to a human. `lifecycle` calls
//! it.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::plural::plural;
use crate::model::stage::Stage;
use crate::model::time::MINUTE;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, Verdict};
use crate::step::lifecycle::LOG_TAIL;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Begins the first stage after `stage` that the repository has; after the last one the run is
    /// done.
    pub(super) fn begin_next_stage(&mut self, id: RunId, stage: Option<Stage>) {
        let Some(run) = self.run(id) else { return };
        match run.workspace.stages.after(stage) {
            Some(stage) => self.begin(id, Activity::Stage { stage }),
            None => self.end_done(id),
        }
    }

    /// Takes a stage's verdict; one about another commit than the pushed one is ignored.
    pub(super) fn verdict(&mut self, id: RunId, link: Evidence, log: &Untrusted) {
        let Some(run) = self.run(id) else { return };
        if run.workspace.pushed.as_ref() != Some(&link.sha) {
            return;
        }
        let Activity::Stage { stage } = run.progress.activity else { return };
        let same = run.progress.activity.clone();
        let (verdict, detail) = (link.verdict, link.detail.clone());
        self.emit(Event::Judged { run: id, stage, link });
        match verdict {
            Verdict::Green => self.begin_next_stage(id, Some(stage)),
            // To look again is no attempt.
            Verdict::Red if self.run(id).is_some_and(|r| r.progress.looks_again.is_some()) => {
                let why =
                    format!("looked again: {} is red ({})", stage.as_str(), detail.clean_line());
                self.end_unfinished(id, &why, &log.tail(LOG_TAIL));
            }
            Verdict::Red => self.fix_forward(id, stage, &detail, log),
            Verdict::Unknown => {
                let why = format!("{} gives no verdict: {}", stage.as_str(), detail.clean_line());
                self.retry_or_end(id, same, &why.into());
            }
            Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied => {
                let detail = detail.clean_line();
                let why = format!("{}: {}: {detail}", stage.as_str(), verdict.as_str());
                self.end_unfinished(id, &why, log);
            }
            Verdict::Pending => {}
        }
    }

    /// Grants an attempt if both caps allow one; otherwise the run ends frozen.
    fn fix_forward(&mut self, id: RunId, stage: Stage, detail: &Untrusted, log: &Untrusted) {
        let Some(run) = self.run(id) else { return };
        let policy = &self.fleet().policy;
        let first_red = run.progress.first_red.unwrap_or(self.at);
        let line =
            |cap: String| format!("{} is red ({}) and {cap}", stage.as_str(), detail.clean_line());
        let log = log.tail(LOG_TAIL);
        if run.progress.attempts >= policy.fix_forward_attempts {
            let attempts = plural(policy.fix_forward_attempts, "attempt");
            let why = line(format!("the limit of {attempts} is reached"));
            self.end_unfinished(id, &why, &log);
        } else if self.at.since(first_red) >= policy.fix_forward_ms {
            let minutes = plural(policy.fix_forward_ms / MINUTE, "minute");
            let why = line(format!("the limit of {minutes} is reached"));
            self.end_unfinished(id, &why, &log);
        } else {
            let number = run.progress.attempts + 1;
            self.emit(Event::Attempt { run: id, number, stage });
            self.update_progress_of(id);
            let prompt = TurnPrompt::FixForward { stage, log };
            self.begin(id, Activity::Turn { prompt });
        }
    }
}
