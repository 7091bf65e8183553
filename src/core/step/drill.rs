//! The drill: afk proves by itself, with `status` and then `forensics`, that its access to the
//! hypervisor works, and asks a human once no drill has succeeded for too long. The tick calls it;
//! `operator` begins one that a human approved, and `breakglass_report` reports its verbs.

use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::breakglass::{BreakglassEvent, BreakglassRules, Verb, VerbOrigin};
use crate::model::id::Actor;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Ends an arming whose time has elapsed, begins a drill that is due, and escalates an overdue
    /// one.
    pub(super) fn tick_breakglass(&mut self) {
        if self.fleet().breakglass.armed.as_ref().is_some_and(|arming| arming.until <= self.at) {
            self.disarm("the arming expired".into());
        }
        let Some(rules) = self.fleet().policy.breakglass.clone() else { return };
        let due = self.fleet().breakglass.next_drill(&rules).is_some_and(|due| due <= self.at);
        // A draining afk is about to end, or runs for a single verb: it begins no drill.
        if due && !self.fleet().draining {
            self.begin_drill_verb(Verb::Status);
        }
        self.escalate_overdue_drill(&rules);
    }

    fn escalate_overdue_drill(&mut self, rules: &BreakglassRules) {
        let open = self
            .fleet()
            .escalations
            .values()
            .any(|e| e.open() && e.kind == EscalationKind::DrillDue);
        if open || self.fleet().breakglass.drill_red(self.at, rules).is_none() {
            return;
        }
        let title = "the drill has not proved the access to the hypervisor in time";
        let last = self.fleet().breakglass.past.iter().rev().find(|run| run.drill);
        let last = last.and_then(|run| run.end.as_ref()).map(|(_, end)| end.result.summary());
        let detail = format!(
            "{title}\n\nafk runs the drill (status, then forensics) by itself. Its last result: \
             {}.\n\nArm breakglass and try `status`; see docs/breakglass.md.",
            last.unwrap_or_else(|| "none".into())
        );
        self.escalate_without_run(EscalationDraft::new(EscalationKind::DrillDue, title, detail));
    }

    /// Begins a drill at once, unless one is in progress or breakglass is not configured.
    pub(super) fn begin_drill(&mut self) {
        if self.fleet().breakglass.drill.verb.is_none() && self.fleet().policy.breakglass.is_some()
        {
            self.begin_drill_verb(Verb::Status);
        }
    }

    fn begin_drill_verb(&mut self, verb: Verb) {
        self.begin_verb(verb, Actor("afk".into()), VerbOrigin::Drill, true);
    }

    /// Continues a drill after its `status`, and completes it after its `forensics`.
    pub(super) fn drill_verb_succeeded(&mut self, verb: Verb) {
        if verb == Verb::Status {
            self.begin_drill_verb(Verb::Forensics);
        } else {
            self.emit_breakglass(BreakglassEvent::Drilled);
            self.withdraw_kind(EscalationKind::DrillDue, "the drill succeeded");
        }
    }
}
