//! One question to an agent: a turn in an empty folder, in which it may do nothing but answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::super::Shell;
use super::turn;
use crate::agent::{EventSender, TurnControl, driver};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::budget::Spend;
use crate::core::model::untrusted::Untrusted;

/// The most that is kept of an answer.
const ANSWER: usize = 1024 * 1024;

/// What is asked, of whom.
#[derive(Debug, Clone)]
pub(in super::super) struct Question {
    /// As its processes are marked; one question at a time has it.
    pub owner: String,
    /// One of the configured agents.
    pub agent: String,
    /// What it is told.
    pub prompt: Untrusted,
    /// The conversation to go on with.
    pub resume: Option<String>,
    /// The model, where it isn't the agent's own.
    pub model: Option<String>,
    /// How long it may take.
    pub limit: Duration,
    /// Environment beside the agent's own.
    pub env: BTreeMap<String, String>,
}

/// What was answered.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Answered {
    /// In words.
    pub text: Untrusted,
    /// What goes on with it.
    pub session: Option<String>,
    /// What it took.
    pub spend: Spend,
}

/// Asks, and hands every event on as it comes. What the agent asks leave for is denied.
///
/// # Errors
/// Why there is no answer, in a line.
pub(in super::super) async fn ask(
    shell: &Arc<Shell>,
    question: Question,
    tell: EventSender,
) -> Result<Answered, String> {
    let folder = shell.folders.take(&question.owner, None)?;
    let spec = turn::question(shell, &question, shell.folders.path(&folder)).await?;
    let (control, mut controls) = mpsc::channel(16);
    let (events, mut heard) = mpsc::channel::<AgentEvent>(256);
    let listen = async {
        let (mut text, mut answered) = (String::new(), Answered::default());
        while let Some(event) = heard.recv().await {
            match &event {
                AgentEvent::Text { text: part } => {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    let room = ANSWER.saturating_sub(text.len());
                    text.extend(part.as_received().chars().take(room));
                }
                AgentEvent::SessionStarted { session, .. } => {
                    answered.session = Some(session.clone());
                }
                AgentEvent::Usage(spend) => answered.spend.add(*spend),
                AgentEvent::PermissionRequest { id, .. } | AgentEvent::Question { id, .. } => {
                    let reason = "there are no tools here: answer in words".into();
                    let (request, answer) = (id.clone(), Answer::Deny { reason });
                    // The turn may be over meanwhile.
                    let _ = control
                        .send(TurnControl::Answer { request, answer, by: "afk".into() })
                        .await;
                }
                _ => {}
            }
            // Nobody may be listening.
            let _ = tell.send(event).await;
        }
        answered.text = text.into();
        answered
    };
    let work = async {
        let end = driver::run(&shell.supervisor, &spec, &events, &mut controls).await;
        drop(events);
        end
    };
    let (end, answered) = tokio::join!(work, listen);
    shell.folders.give_back(&question.owner, None);
    match end {
        TurnEnd::Done => Ok(answered),
        end => Err(crate::core::model::untrusted::clean_line(&end.summary())),
    }
}
