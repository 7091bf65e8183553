//! The live sessions: their calls that wait for an answer, their recording, and their stop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::tool_request::ToolRequest;
use crate::breakglass::recording::Recorder;
use crate::core::model::breakglass::{AgentCallId, BreakglassReport, ShellId};
use crate::core::model::input::Input;
use crate::core::model::untrusted::clean;
use crate::lock::LockExt;
use crate::runtime::Context;

/// How long the answer to a refused call is held back. It bounds how fast an agent can fill the
/// journal with refusals.
const REFUSED: Duration = Duration::from_millis(500);

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
    recorder: Option<Recorder>,
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
    pub(super) fn stop_token(&self, id: ShellId) -> Option<CancellationToken> {
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

    fn register(&self, id: ShellId) -> Option<(AgentCallId, oneshot::Receiver<ToolAnswer>)> {
        let mut sessions = self.sessions.locked();
        let session = sessions.get_mut(&id).filter(|session| !session.stop.is_cancelled())?;
        session.last += 1;
        let call = AgentCallId(session.last);
        let (sender, answer) = oneshot::channel();
        session.waiting.insert(call, sender);
        Some((call, answer))
    }

    /// Passes a call to the core, and waits for its answer. Dropping the future withdraws the call.
    pub(super) async fn call(
        context: &Arc<Context>,
        id: ShellId,
        request: &ToolRequest,
    ) -> ToolAnswer {
        let over = || ToolAnswer { ok: false, text: "the session has ended".into() };
        let tool = request.read();
        let desk = &context.agent_desk;
        let Some((call, answer)) = desk.register(id) else { return over() };
        desk.record(id, &format!("[{call}] {}", tool.summary()));
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
