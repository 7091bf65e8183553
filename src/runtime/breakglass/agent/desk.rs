//! The live sessions: their calls that wait for an answer, their recording, and their stop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::tool_request::ToolRequest;
use crate::breakglass::recording::Recorder;
use crate::core::model::breakglass::{AgentCallId, BreakglassReport, OPEN_CALLS, ShellId};
use crate::core::model::input::Input;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean;
use crate::lock::LockExt;
use crate::runtime::Context;

/// How long the answer to a refused call is held back, so that an agent that tries again at once costs
/// little.
const REFUSED: Duration = Duration::from_millis(500);
/// The time in which calls are counted against `calls_a_minute`.
const MINUTE: Duration = Duration::from_secs(60);
/// How many calls above `calls_a_minute` reach the core, which records each of its refusals: operators then
/// see that the agent calls too often.
const RECORDED_EXCESS: usize = OPEN_CALLS;

/// The answer to a call of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolAnswer {
    pub ok: bool,
    pub text: String,
}

/// The session of a breakglass agent in this process.
#[derive(Debug)]
struct LiveSession {
    stop: CancellationToken,
    /// Why it was stopped.
    why: Option<String>,
    /// The number of the last call.
    last: u64,
    waiting: BTreeMap<AgentCallId, oneshot::Sender<ToolAnswer>>,
    /// When the calls of the last minute came that reached the core.
    recent: VecDeque<Instant>,
    /// Whether the last call was one too many; the recording shows only the first of them.
    floods: bool,
    recorder: Option<Recorder>,
}

impl LiveSession {
    /// The reason why one more call would be too many, if it would.
    fn excess(&mut self, calls_a_minute: usize, now: Instant) -> Option<String> {
        self.recent.retain(|call| now.duration_since(*call) < MINUTE);
        if self.waiting.len() >= OPEN_CALLS {
            Some(format!("{} wait already", plural(OPEN_CALLS, "call")))
        } else if self.recent.len() >= calls_a_minute.saturating_add(RECORDED_EXCESS) {
            let most = plural(calls_a_minute, "call");
            Some(format!("more than {most} within a minute: wait"))
        } else {
            None
        }
    }
}

/// Whether a call reaches the core.
#[derive(Debug)]
enum Admission {
    /// The call waits for its answer.
    Waits(AgentCallId, oneshot::Receiver<ToolAnswer>),
    /// The call is one too many. Neither the core nor the journal learns of it, so that a flood fills
    /// nothing.
    Refused(String),
    SessionOver,
}

/// The sessions of the breakglass agent; at most one works, and others may still be ending.
#[derive(Debug, Default)]
pub(crate) struct AgentDesk {
    sessions: Mutex<BTreeMap<ShellId, LiveSession>>,
}

impl AgentDesk {
    /// Opens a session, and returns what stops it.
    pub(super) fn begin(&self, id: ShellId) -> CancellationToken {
        let stop = CancellationToken::new();
        let session = LiveSession {
            stop: stop.clone(),
            why: None,
            last: 0,
            waiting: BTreeMap::new(),
            recent: VecDeque::new(),
            floods: false,
            recorder: None,
        };
        self.sessions.locked().insert(id, session);
        stop
    }

    /// Records the session from now on.
    pub(super) fn record_with(&self, id: ShellId, recorder: Option<Recorder>) {
        if let Some(session) = self.sessions.locked().get_mut(&id) {
            session.recorder = recorder;
        }
    }

    /// Adds a text to the recording, with its end of line.
    pub(super) fn record(&self, id: ShellId, text: &str) {
        if let Some(recorder) =
            self.sessions.locked().get_mut(&id).and_then(|session| session.recorder.as_mut())
        {
            let text = clean(text).replace('\n', "\r\n");
            recorder.output(format!("{text}\r\n").as_bytes());
        }
    }

    /// What stops a session that has not ended.
    pub(in crate::runtime) fn stop_token(&self, id: ShellId) -> Option<CancellationToken> {
        self.sessions.locked().get(&id).map(|session| session.stop.clone())
    }

    /// Stops a session: its agent, its command and every call that waits.
    pub(in crate::runtime) fn stop(&self, id: ShellId, why: &str) {
        if let Some(session) = self.sessions.locked().get_mut(&id) {
            session.why.get_or_insert_with(|| why.to_owned());
            // Each caller then learns that the session ended.
            session.waiting.clear();
            session.stop.cancel();
        }
    }

    /// Why a session was stopped, if it was.
    pub(super) fn stop_reason(&self, id: ShellId) -> Option<String> {
        self.sessions.locked().get(&id).and_then(|session| session.why.clone())
    }

    /// Closes a session, and returns its recording.
    pub(super) fn end(&self, id: ShellId) -> Option<Recorder> {
        self.sessions.locked().remove(&id).and_then(|session| session.recorder)
    }

    /// Answers a call, if its caller still waits.
    pub(super) fn answer(&self, id: ShellId, call: AgentCallId, answer: ToolAnswer) {
        self.record(id, &format!("[{call}] {}", answer.text));
        let waits =
            self.sessions.locked().get_mut(&id).and_then(|session| session.waiting.remove(&call));
        if let Some(caller) = waits {
            // The caller may have gone away meanwhile.
            let _ = caller.send(answer);
        }
    }

    fn admit(&self, id: ShellId, calls_a_minute: usize, now: Instant) -> Admission {
        let (refusal, is_first) = {
            let mut sessions = self.sessions.locked();
            let live = sessions.get_mut(&id).filter(|session| !session.stop.is_cancelled());
            let Some(session) = live else { return Admission::SessionOver };
            let excess = session.excess(calls_a_minute, now);
            let flooded = std::mem::replace(&mut session.floods, excess.is_some());
            let Some(why) = excess else {
                session.recent.push_back(now);
                session.last += 1;
                let call = AgentCallId(session.last);
                let (sender, answer) = oneshot::channel();
                session.waiting.insert(call, sender);
                return Admission::Waits(call, answer);
            };
            (why, !flooded)
        };
        if is_first {
            self.record(id, &format!("refused without a record: {refusal}"));
        }
        Admission::Refused(refusal)
    }

    /// Passes a call to the core, and waits for its answer. Dropping the future withdraws the call.
    pub(super) async fn call(
        context: &Arc<Context>,
        id: ShellId,
        request: &ToolRequest,
    ) -> ToolAnswer {
        let over = || ToolAnswer { ok: false, text: "the session has ended".into() };
        let desk = &context.agent_desk;
        let config = context.config();
        let agent = config.breakglass.as_ref().and_then(|known| known.agent.as_ref());
        let calls_a_minute = agent.map_or(0, |agent| agent.calls_a_minute);
        let (call, answer) = match desk.admit(id, calls_a_minute, Instant::now()) {
            Admission::Waits(call, answer) => (call, answer),
            Admission::Refused(why) => {
                sleep(REFUSED).await;
                return ToolAnswer { ok: false, text: format!("refused: {why}") };
            }
            Admission::SessionOver => return over(),
        };
        let tool = request.read();
        let shown = if tool.fault().is_some() { tool.clone().refused() } else { tool.clone() };
        desk.record(id, &format!("[{call}] {}", shown.summary()));
        let withdraws = Withdrawal { context, session: id, call, answered: false };
        let report = BreakglassReport::AgentCalled { session: id, call, tool };
        context.send_urgent(Input::Breakglass(report)).await;
        let answer = answer.await;
        withdraws.answered();
        match answer {
            Ok(answer) => {
                if !answer.ok {
                    sleep(REFUSED).await;
                }
                answer
            }
            Err(_) => over(),
        }
    }
}

/// Tells the core that the agent no longer waits, unless the call was answered.
struct Withdrawal<'a> {
    context: &'a Arc<Context>,
    session: ShellId,
    call: AgentCallId,
    answered: bool,
}

impl Withdrawal<'_> {
    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if let Some(session) = self.context.agent_desk.sessions.locked().get_mut(&self.session) {
            session.waiting.remove(&self.call);
        }
        let context = self.context.clone();
        let report = BreakglassReport::AgentWithdrew { session: self.session, call: self.call };
        tokio::spawn(async move { context.send_urgent(Input::Breakglass(report)).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: ShellId = ShellId(1);

    fn answer(desk: &AgentDesk, call: AgentCallId) {
        desk.answer(SESSION, call, ToolAnswer { ok: true, text: String::new() });
    }

    /// Admits calls that wait, until one is refused; returns them and the refusal.
    fn fill(
        desk: &AgentDesk,
        now: Instant,
    ) -> (Vec<(AgentCallId, oneshot::Receiver<ToolAnswer>)>, String) {
        let mut waiting = Vec::new();
        loop {
            match desk.admit(SESSION, 20, now) {
                Admission::Waits(call, answer) => waiting.push((call, answer)),
                Admission::Refused(why) => return (waiting, why),
                Admission::SessionOver => panic!("the session is over"),
            }
            assert!(waiting.len() < 1000, "no call is refused");
        }
    }

    #[test]
    fn calls_above_the_open_ones_reach_no_core() {
        let desk = AgentDesk::default();
        desk.begin(SESSION);
        let now = Instant::now();
        let (waiting, why) = fill(&desk, now);
        assert_eq!((waiting.len(), why.as_str()), (OPEN_CALLS, "8 calls wait already"));
        assert!(fill(&desk, now).0.is_empty());
        // An answer makes room for one, whose number follows the last one that was admitted.
        answer(&desk, waiting[3].0);
        let (more, _) = fill(&desk, now);
        assert_eq!(more.iter().map(|call| call.0.0).collect::<Vec<_>>(), [9]);
        desk.stop(SESSION, "stopped");
        assert!(matches!(desk.admit(SESSION, 20, now), Admission::SessionOver));
    }

    #[test]
    fn calls_above_the_rate_reach_no_core_until_the_minute_is_over() {
        let desk = AgentDesk::default();
        desk.begin(SESSION);
        let begun = Instant::now();
        let passed = |now| {
            let mut count = 0;
            for _ in 0..1000 {
                if let Admission::Waits(call, _) = desk.admit(SESSION, 20, now) {
                    count += 1;
                    answer(&desk, call);
                }
            }
            count
        };
        assert_eq!(passed(begun), 20 + RECORDED_EXCESS);
        assert_eq!(passed(begun + MINUTE / 2), 0);
        assert_eq!(passed(begun + MINUTE), 20 + RECORDED_EXCESS);
        let refused = desk.admit(SESSION, 20, begun + MINUTE);
        let Admission::Refused(why) = refused else { panic!("{refused:?}") };
        assert_eq!(why, "more than 20 calls within a minute: wait");
        assert_eq!(desk.sessions.locked()[&SESSION].recent.len(), 20 + RECORDED_EXCESS);
    }
}
