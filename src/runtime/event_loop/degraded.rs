//! Breakglass while the journal can't be written.
//!
//! Everything else waits for the journal. Breakglass must not: a wedged VM may be the very reason
//! that the disk does not answer. Its effects and replies pass, its events stay in memory until the
//! journal takes them, and every client sees "AUDIT DEGRADED".

use std::sync::Arc;

use super::EventLoop;
use crate::core::model::effect::Effect;
use crate::runtime::Snapshot;
use crate::runtime::side_state::ProblemSource;

impl EventLoop {
    /// Reports to every client that the journal can't be written, and releases the effects and
    /// replies of breakglass that wait for it.
    pub(super) fn degrade(&mut self, why: &str) {
        tracing::error!(why, "the journal can't be written");
        let mut line = format!("{why}; nothing goes on until it can be written");
        if self.fleet.policy.breakglass.is_some() {
            line.push_str(", but breakglass: AUDIT DEGRADED (kept here and at the host)");
        }
        self.context.side_state.set_problems(ProblemSource::Journal, vec![line]);
        self.publish_problems();
        if let Some(in_flight) = &mut self.in_flight {
            let replies = in_flight.replies.extract_if(.., |reply| reply.is_breakglass).collect();
            let effects =
                in_flight.effects.extract_if(.., |effect| effect.is_breakglass()).collect();
            self.follow(effects, replies);
        }
        self.release_breakglass();
    }

    /// Releases and publishes the last step's results for breakglass, if the journal is degraded.
    pub(super) fn pass_breakglass(&mut self, degraded: bool) {
        if degraded {
            self.release_breakglass();
            self.publish_breakglass();
        }
    }

    fn release_breakglass(&mut self) {
        let replies = self.next.replies.extract_if(.., |reply| reply.is_breakglass).collect();
        let effects = self.next.effects.extract_if(.., |effect| effect.is_breakglass());
        let effects: Vec<Effect> = effects.collect();
        let effects = effects.into_iter().filter_map(|effect| self.prepare(effect)).collect();
        self.follow(effects, replies);
    }

    /// Publishes the current problems beside the last durable fleet.
    fn publish_problems(&self) {
        let problems = self.context.side_state.problem_lines();
        self.publish.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot { problems, ..snapshot.as_ref().clone() });
        });
        if self.fleet.policy.breakglass.is_some() {
            self.publish_breakglass();
        }
    }

    /// Publishes the current breakglass state beside the last durable fleet.
    fn publish_breakglass(&self) {
        let problems = self.context.side_state.problem_lines();
        let breakglass_ahead = Some(Box::new(self.fleet.breakglass.clone()));
        let verb_output = self.context.side_state.verbs().copy();
        self.publish.send_modify(|snapshot| {
            let known = snapshot.as_ref().clone();
            *snapshot = Arc::new(Snapshot { problems, verb_output, breakglass_ahead, ..known });
        });
    }
}
