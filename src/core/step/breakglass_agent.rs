//! The breakglass agent: the start and the end of its session, its calls, and the answers of operators
//! to them. `breakglass` and `breakglass_report` pass them in; the table `breakglass_agent` decides.
//!
//! A session lives within the arming of the operator who started it: the end of the arming ends it.

use crate::model::approval::{Answer, Escalation, EscalationDraft, EscalationKind};
use crate::model::breakglass::{
    AgentCall, AgentCallId, AgentDecision, AgentGrant, AgentLevel, AgentSession, AgentTerms,
    AgentTool, BreakglassEvent, BreakglassRefusal, BreakglassRules, BreakglassTask, ShellId, Verb,
    VerbEnd, VerbId, VerbOrigin,
};
use crate::model::command::Refusal;
use crate::model::effect::Effect;
use crate::model::id::{Actor, EscalationId};
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;
use crate::tables::breakglass_agent::{AgentFacts, AgentVerdict, judge};

/// The request that a permission of the breakglass agent names.
fn request_id(session: ShellId, call: AgentCallId) -> String {
    format!("{session} {call}")
}

impl Stepper<'_> {
    fn session(&self) -> Option<&AgentSession> {
        self.fleet().breakglass.agent.as_deref()
    }

    /// Whether an operator whose arming is in force may start a session.
    pub(super) fn check_agent_start(
        &self,
        rules: &BreakglassRules,
        mutations: usize,
    ) -> Result<(), BreakglassRefusal> {
        let agent = rules.agent.as_ref().ok_or(BreakglassRefusal::NoAgent)?;
        if agent.level == AgentLevel::Read || agent.host.is_none() {
            Err(BreakglassRefusal::NoAgentLevel)
        } else if self.session().is_some() {
            Err(BreakglassRefusal::AgentWorks)
        } else if mutations > agent.mutations {
            Err(BreakglassRefusal::TooManyForAgent { most: agent.mutations })
        } else {
            Ok(())
        }
    }

    /// Any operator may stop the agent, also one who is not armed.
    pub(super) fn check_agent_stop(&self) -> Result<(), BreakglassRefusal> {
        self.session().map(|_| ()).ok_or(BreakglassRefusal::NoAgentWorks)
    }

    pub(super) fn start_agent(&mut self, by: Actor, task: Untrusted, mutations: usize) {
        let rules = self.fleet().policy.breakglass.as_ref();
        let Some(agent) = rules.and_then(|rules| rules.agent.clone()) else { return };
        let Some(host) = agent.host else { return };
        let armed = self.fleet().breakglass.armed.as_ref();
        let reason = armed.map(|arming| arming.reason.clone()).unwrap_or_default();
        let id = self.fleet().breakglass.next_shell();
        let level = agent.level;
        let mutations = if level == AgentLevel::Act { mutations } else { 0 };
        let terms = AgentTerms { id, agent: agent.agent, by, level, host, mutations };
        self.notify_breakglass(format!(
            "{} starts the breakglass agent {} at the level {}",
            terms.by,
            terms.agent,
            level.as_str()
        ));
        self.emit_breakglass(BreakglassEvent::AgentStarted { terms: terms.clone() });
        self.effect(Effect::Breakglass(BreakglassTask::StartAgent { terms, task, reason }));
    }

    /// Ends the session, if one is under way: no further call has an effect.
    pub(super) fn end_agent(&mut self, why: &str) {
        let Some(session) = self.session().map(|session| session.terms.id) else { return };
        self.effect(Effect::Breakglass(BreakglassTask::StopAgent { session, why: why.into() }));
        self.agent_ended(why.into());
    }

    /// Records the end of the session, and withdraws what the inbox asks about it.
    pub(super) fn agent_ended(&mut self, why: Untrusted) {
        let text = format!("the breakglass agent ended: {}", why.clean_line());
        self.emit_breakglass(BreakglassEvent::AgentEnded { why });
        self.notify_breakglass(text);
        self.withdraw(is_of_agent, "the session of the breakglass agent ended");
    }

    /// Decides about a call, and carries it out where it is allowed.
    pub(super) fn agent_called(&mut self, of: ShellId, call: AgentCallId, tool: AgentTool) {
        let Some(session) = self.session().filter(|session| session.terms.id == of) else { return };
        if session.open.contains_key(&call) {
            return;
        }
        match judge(session, &tool, &self.agent_facts(session), false) {
            AgentVerdict::Refuse(why) => {
                let (tool, decision) =
                    (tool.refused(), AgentDecision::Refused { why: why.clone() });
                self.emit_breakglass(BreakglassEvent::AgentCalled { call, tool, decision });
                self.agent_reply(of, call, false, format!("refused: {why}"), None);
            }
            AgentVerdict::Allow => {
                let decision = AgentDecision::Allowed;
                let called = BreakglassEvent::AgentCalled { call, tool: tool.clone(), decision };
                self.emit_breakglass(called);
                self.carry_out_call(call, &tool);
            }
            AgentVerdict::Ask => {
                let Some(draft) = self.agent_question(of, call, &tool) else { return };
                let escalation = self.escalate_without_run(draft);
                let decision = AgentDecision::Asked { escalation };
                self.emit_breakglass(BreakglassEvent::AgentCalled { call, tool, decision });
            }
        }
    }

    fn agent_facts(&self, session: &AgentSession) -> AgentFacts {
        let (state, rules) = (&self.fleet().breakglass, self.fleet().policy.breakglass.as_ref());
        let agent = rules.and_then(|rules| rules.agent.as_ref());
        let armed = state
            .armed
            .as_ref()
            .is_some_and(|arming| arming.by == session.terms.by && arming.until > self.at);
        let most = rules.map_or(0, |rules| rules.mutations);
        AgentFacts {
            at: self.at,
            // Without the arming, the session is about to end.
            calls_a_minute: agent.filter(|_| armed).map_or(0, |agent| agent.calls_a_minute),
            mutating: state.mutation().map(|run| format!("{} by {}", run.verb.as_str(), run.by)),
            mutations: (state.recent(self.at), most),
            warned: !state.warnings.is_empty(),
        }
    }

    /// The question to an operator about a call: the whole call, its host and its effect.
    fn agent_question(
        &self,
        of: ShellId,
        call: AgentCallId,
        tool: &AgentTool,
    ) -> Option<EscalationDraft> {
        let session = self.session()?;
        let rules = self.fleet().policy.breakglass.as_ref()?;
        let state = &self.fleet().breakglass;
        let terms = &session.terms;
        let mut request = tool.permission(&terms.host, &rules.vm);
        let mut text = format!("The breakglass agent {} ({of}, {call}) ", terms.agent);
        match tool {
            AgentTool::Command { command } => {
                text.push_str(&format!(
                    "asks to run this command on {}, with the rights of its account there:\n\n{}\n\n\
                     It may change anything that this account may change.\n",
                    terms.host,
                    command.as_received()
                ));
            }
            AgentTool::Verb { verb } => {
                let word = verb.as_str();
                text.push_str(&format!(
                    "asks to send this verb to the hypervisor of {}:\n\n{word}\n\n{word}: {}.\n",
                    rules.vm,
                    verb.explains()
                ));
                match &state.reads {
                    Some((_, reads)) => {
                        text.push_str(&format!("{} last read {}.\n", rules.vm, reads.clean_line()));
                    }
                    None => text.push_str(&format!("The state of {} was not read.\n", rules.vm)),
                }
                for warning in state.warnings.iter().filter(|_| verb.mutates()) {
                    text.push_str(&format!("WARNING: {}.\n", warning.clean_line()));
                }
            }
            AgentTool::Note { .. } | AgentTool::Unknown { .. } => return None,
        }
        if let Some(kind) = AgentGrant::of(tool) {
            text.push_str(&format!(
                "\nIts kind, for the rest of this session: {}.\n",
                kind.means()
            ));
        }
        text.push_str(
            "\nThe agent read the output of hosts, which untrusted programs wrote. Allow only a call \
             that you understand.",
        );
        request.detail = text.clone().into();
        let title = request.title.clone();
        let mut draft = EscalationDraft::new(EscalationKind::Permission, title, text);
        draft.request_id = Some(request_id(of, call));
        draft.permission = Some(Box::new(request));
        Some(draft)
    }

    fn carry_out_call(&mut self, call: AgentCallId, tool: &AgentTool) {
        let Some(session) = self.session() else { return };
        let (of, host, actor) = (session.terms.id, session.terms.host.clone(), session.actor());
        match tool {
            AgentTool::Note { .. } => {
                self.agent_reply(of, call, true, "the operators can read it".into(), None);
            }
            AgentTool::Unknown { .. } => {
                self.agent_reply(of, call, false, "there is no such tool".into(), None);
            }
            AgentTool::Command { command } => {
                let command = command.clone();
                let task = BreakglassTask::AgentCommand { session: of, call, host, command };
                self.effect(Effect::Breakglass(task));
            }
            AgentTool::Verb { verb } => {
                self.notify_breakglass(format!("{} by {actor}", verb.as_str()));
                let origin = VerbOrigin::Client(format!("agent {of}"));
                let verb = self.begin_verb_for(*verb, actor, origin, false, Some(of));
                self.emit_breakglass(BreakglassEvent::AgentBegan { call, verb });
            }
        }
    }

    /// Ends a call with an answer for the agent.
    fn agent_reply(
        &mut self,
        session: ShellId,
        call: AgentCallId,
        ok: bool,
        text: String,
        verb: Option<VerbId>,
    ) {
        let said = text.as_str().into();
        // A refused call has ended already.
        if self.session().is_some_and(|session| session.open.contains_key(&call)) {
            self.emit_breakglass(BreakglassEvent::AgentCallEnded { call, ok, said });
        }
        let task = BreakglassTask::AgentReply { session, call, ok, text, verb };
        self.effect(Effect::Breakglass(task));
    }

    /// Answers the call that began a verb which has ended.
    pub(super) fn agent_verb_ended(&mut self, id: VerbId, verb: Verb, end: &VerbEnd) {
        let Some(session) = self.session() else { return };
        let Some(call) = session.open.values().find(|call| call.verb == Some(id)) else { return };
        let (of, call) = (session.terms.id, call.id);
        let mut text = format!("{}: {}", verb.as_str(), end.summary());
        if let Some(reads) = &end.reads {
            text.push_str(&format!("; the VM reads {}", reads.clean_line()));
        }
        self.agent_reply(of, call, end.result.good(), text, Some(id));
    }

    /// Records the end of a command, whose output the runtime has handed to the agent.
    pub(super) fn agent_command_ended(
        &mut self,
        of: ShellId,
        call: AgentCallId,
        ok: bool,
        said: Untrusted,
    ) {
        let open =
            |session: &AgentSession| session.terms.id == of && session.open.contains_key(&call);
        if self.session().is_some_and(open) {
            self.emit_breakglass(BreakglassEvent::AgentCallEnded { call, ok, said });
        }
    }

    /// Withdraws the question about a call for which the agent no longer waits. One that was carried
    /// out goes on.
    pub(super) fn agent_withdrew(&mut self, of: ShellId, call: AgentCallId) {
        let waits = |call: &AgentCall| matches!(call.decision, AgentDecision::Asked { .. });
        let Some(session) = self.session().filter(|session| session.terms.id == of) else { return };
        if !session.open.get(&call).is_some_and(waits) || !self.is_asked(of, call) {
            return;
        }
        let said = "the agent no longer waits for it".into();
        self.emit_breakglass(BreakglassEvent::AgentCallEnded { call, ok: false, said });
        let request = request_id(of, call);
        let of_call = |e: &Escalation| is_of_agent(e) && e.request_id.as_ref() == Some(&request);
        self.withdraw(of_call, "the agent no longer waits for an answer");
    }

    fn is_asked(&self, of: ShellId, call: AgentCallId) -> bool {
        let request = request_id(of, call);
        let mut open = self.fleet().escalations.values().filter(|e| e.open() && is_of_agent(e));
        open.any(|e| e.request_id.as_ref() == Some(&request))
    }

    /// The call that a permission asks about, if it still waits.
    fn asked_call(&self, escalation: EscalationId) -> Option<&AgentCall> {
        let asks = |call: &&AgentCall| matches!(call.decision, AgentDecision::Asked { escalation: of } if of == escalation);
        self.session()?.open.values().find(asks)
    }

    /// Whether an operator may answer a permission of the agent: the one in whose arming it works.
    pub(super) fn check_agent_answer(
        &self,
        by: &Actor,
        escalation: EscalationId,
    ) -> Result<(), Refusal> {
        if self.asked_call(escalation).is_none() {
            return Err(Refusal::Stale { escalation });
        }
        self.armed_by(by).map(|_| ()).map_err(|reason| Refusal::Breakglass { reason })
    }

    /// Carries out an operator's answer to a permission of the agent. The rules of verbs are judged
    /// again: another mutating verb may have begun meanwhile.
    pub(super) fn answer_agent(&mut self, escalation: EscalationId, answer: &Answer, by: Actor) {
        let Some(asked) = self.asked_call(escalation) else { return };
        let (call, tool) = (asked.id, asked.tool.clone());
        let Some(session) = self.session() else { return };
        let of = session.terms.id;
        let grant = match answer {
            Answer::Approve => None,
            Answer::ApproveRun => AgentGrant::of(&tool),
            Answer::Deny { reason } => {
                let reason = reason.clean_line();
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                return self.agent_reply(
                    of,
                    call,
                    false,
                    format!("an operator denied it{why}"),
                    None,
                );
            }
            Answer::Edit { .. } | Answer::Text { .. } => return,
        };
        match judge(session, &tool, &self.agent_facts(session), true) {
            AgentVerdict::Refuse(why) => {
                self.agent_reply(of, call, false, format!("refused: {why}"), None);
            }
            AgentVerdict::Allow | AgentVerdict::Ask => {
                self.emit_breakglass(BreakglassEvent::AgentAllowed { call, by, grant });
                self.carry_out_call(call, &tool);
            }
        }
    }
}

/// Whether an escalation is a permission of the breakglass agent.
pub(super) fn is_of_agent(escalation: &Escalation) -> bool {
    escalation.kind == EscalationKind::Permission && escalation.run.is_none()
}
