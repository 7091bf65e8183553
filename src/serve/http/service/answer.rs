//! An answer in words: a job that is waited for, and stopped where its caller goes away.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::Shared;
use super::{Client, No, new_id, submit};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::Spend;
use crate::core::model::command::{Command, CommandEnvelope, Refusal};
use crate::core::model::id::RunId;
use crate::core::model::job::{Job, JobId, JobKind};
use crate::core::model::run::Outcome;
use crate::runtime::Handle;

/// What is asked.
#[derive(Debug)]
pub(super) struct Question {
    pub prompt: String,
    pub kind: JobKind,
    pub model: String,
    pub seconds: u32,
}

/// A job that somebody waits for. Dropped before its end, it is stopped.
#[derive(Debug)]
pub(super) struct Waiting {
    handle: Handle,
    pub id: JobId,
    run: RunId,
    by: Client,
    heard: mpsc::Receiver<AgentEvent>,
    /// Pieces came: the whole lines say the same once more.
    pieces: bool,
    /// Something was said.
    said: bool,
    over: bool,
    /// What it took.
    pub spend: Spend,
}

/// Asks.
///
/// # Errors
/// Why it was not taken.
pub(super) async fn ask(
    shared: &Shared,
    client: Client,
    question: Question,
) -> Result<Waiting, No> {
    let id = new_id()?;
    let job = Job {
        id,
        kind: question.kind,
        agent: None,
        model: Some(question.model),
        budget: None,
        limit_ms: i64::from(question.seconds) * 1000,
        metadata: None,
    };
    let heard = shared.handle.listen(id);
    let by = Client(client.0.clone());
    match submit(shared, client, &question.prompt, job).await {
        Ok(run) => Ok(Waiting {
            handle: shared.handle.clone(),
            id,
            run,
            by,
            heard,
            pieces: false,
            said: false,
            over: false,
            spend: Spend::default(),
        }),
        Err(refusal) => {
            shared.handle.stop_listening(id);
            Err(match refusal {
                Refusal::Viewer => No::from(&refusal),
                other => No::failed(&other.to_string()),
            })
        }
    }
}

impl Waiting {
    /// The next part of the answer; none once it is whole.
    ///
    /// # Errors
    /// A line: why there is no more.
    pub(super) async fn next(&mut self) -> Result<Option<String>, String> {
        while let Some(event) = self.heard.recv().await {
            match event {
                AgentEvent::Piece { text } => {
                    self.pieces = true;
                    self.said = true;
                    return Ok(Some(text.as_received().to_owned()));
                }
                AgentEvent::Text { text } if !self.pieces => {
                    let between = if self.said { "\n\n" } else { "" };
                    self.said = true;
                    return Ok(Some(format!("{between}{}", text.as_received())));
                }
                AgentEvent::Usage(spend) => self.spend.add(spend),
                _ => {}
            }
        }
        self.end().await.map(|()| None)
    }

    /// The job is over, or will be with the next snapshot.
    async fn end(&mut self) -> Result<(), String> {
        let mut snapshots = self.handle.snapshots.clone();
        let over = |now: &Arc<crate::runtime::Snapshot>| {
            // Forgotten already is over.
            now.fleet.runs.get(&self.run).is_none_or(|run| run.outcome.is_some())
        };
        let snapshot = snapshots.wait_for(over).await.map_err(|_| "afk has ended".to_owned())?;
        self.over = true;
        match snapshot.fleet.runs.get(&self.run) {
            Some(run) if run.outcome == Some(Outcome::Done) => Ok(()),
            Some(run) => Err(run.why.clean_line()),
            None => Err("it is not known any more".into()),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// A line: why there is none.
    pub(super) async fn whole(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while let Some(part) = self.next().await? {
            text.push_str(&part);
        }
        Ok(text)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.handle.stop_listening(self.id);
        if self.over {
            return;
        }
        let (handle, run) = (self.handle.clone(), self.run);
        let (actor, role) = (self.by.0.actor.clone(), self.by.0.role);
        tokio::spawn(async move {
            let action = Command::Cancel { run };
            let command = CommandEnvelope {
                id: 0,
                actor,
                role,
                origin: "http, gone".into(),
                command: action,
            };
            // It may have ended meanwhile.
            let _ = handle.command(command).await;
        });
    }
}
