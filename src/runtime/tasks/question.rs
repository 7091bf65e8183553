//! One question to an agent: a turn in an empty folder with no tools, for an answer in words.
//!
//! [`breakglass`](crate::runtime::breakglass) asks for a diagnosis with it. No run, permit or
//! journal entry is involved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::turn_spec;
use crate::agent::{EventSender, TurnControl, driver};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::Spend;
use crate::core::model::untrusted::Untrusted;
use crate::runtime::Context;

/// The largest answer, in characters; the rest is dropped.
const ANSWER_SIZE: usize = 1024 * 1024;

/// A question, and the agent that gets it.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct AgentQuestion {
    /// The name that marks the agent's processes. Only one question at a time may have it.
    pub owner: String,
    /// The name of a configured agent.
    pub agent: String,
    pub prompt: Untrusted,
    /// The conversation to continue.
    pub resume: Option<String>,
    /// The model; none is the agent's own choice.
    pub model: Option<String>,
    /// The longest that the answer may take.
    pub limit: Duration,
    /// Environment variables beside the agent's own.
    pub env: BTreeMap<String, String>,
}

/// The answer of an agent.
#[derive(Debug, Clone, Default)]
pub(in crate::runtime) struct AgentAnswer {
    /// The agent's text, one paragraph a line.
    pub text: Untrusted,
    /// The conversation, to continue it with another question.
    pub session: Option<String>,
    /// The usage that the agent reported.
    pub spend: Spend,
}

/// Asks an agent, and passes every event on as it comes. Each permission that the agent requests is
/// denied.
///
/// # Errors
/// A line that says why there is no answer.
pub(in crate::runtime) async fn ask(
    runtime: &Arc<Context>,
    question: AgentQuestion,
    sink: EventSender,
) -> Result<AgentAnswer, String> {
    let folder = runtime.scratch_dirs.take(&question.owner, None)?;
    let folder = runtime.scratch_dirs.path(&folder);
    let spec =
        turn_spec::of_question(runtime, &question, folder).await.map_err(|e| e.to_string())?;
    let (control, mut controls) = mpsc::channel(16);
    let (sender, mut events) = mpsc::channel::<AgentEvent>(256);
    let collect = async {
        let (mut text, mut answer) = (String::new(), AgentAnswer::default());
        while let Some(event) = events.recv().await {
            match &event {
                AgentEvent::Text { text: part } => {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    let room = ANSWER_SIZE.saturating_sub(text.len());
                    text.extend(part.as_received().chars().take(room));
                }
                AgentEvent::SessionStarted { session, .. } => {
                    answer.session = Some(session.clone());
                }
                AgentEvent::Usage(spend) if spend.is_plausible() => answer.spend.add(*spend),
                AgentEvent::PermissionRequest { id, .. } | AgentEvent::Question { id, .. } => {
                    let reason = "there are no tools here: answer in words".into();
                    let (request, answer) = (id.clone(), Answer::Deny { reason });
                    // The turn may have ended meanwhile.
                    let _ = control
                        .send(TurnControl::Answer { request, answer, by: DecidedBy::Afk })
                        .await;
                }
                _ => {}
            }
            // The receiver may have gone away; the answer is still complete.
            let _ = sink.send(event).await;
        }
        answer.text = text.into();
        answer
    };
    let work = async {
        let end = driver::run(&runtime.supervisor, &spec, &sender, &mut controls).await;
        drop(sender);
        end
    };
    let (end, answer) = tokio::join!(work, collect);
    runtime.scratch_dirs.give_back(&question.owner, None);
    match end {
        TurnEnd::Done => Ok(answer),
        end => Err(crate::core::model::untrusted::clean_line(&end.summary())),
    }
}
