//! The row of a preset in the table of capabilities (assets/agents.toml): how far afk can steer, watch
//! and bill an agent. The adapters read their [`Capabilities`] here, `tests/conform.sh` compares each
//! cell with the pinned program, and docs/agents.md shows the result.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::permission::Tool;

/// How an agent reports tokens or money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reported {
    /// The agent reports none.
    #[default]
    No,
    /// For each request to the model, during the turn.
    Request,
    /// For the turn, at its end.
    Turn,
    /// At the end of a turn, for its last request alone; afk estimates the others.
    LastRequest,
    /// As a running sum of the conversation, from which afk subtracts the last one.
    Sum,
}

impl Reported {
    /// The cell of the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Request => "per request",
            Self::Turn => "per turn",
            Self::LastRequest => "last request of a turn",
            Self::Sum => "cumulative",
        }
    }
}

/// What a preset's agent can be made to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Abilities {
    /// The tools for which it asks afk for permission.
    pub asks: Vec<Tool>,
    /// Whether it runs an edited command in place of its own.
    pub edits: bool,
    /// Whether its model reads the reason of a refusal and continues the turn.
    pub reads_refusals: bool,
    /// Whether it asks questions and waits for the answer.
    pub questions: bool,
    /// When it takes a message.
    pub steers: Steer,
    /// Whether it ends a turn on request and keeps the conversation.
    pub interrupts: bool,
    /// Whether a new process resumes a conversation.
    pub resumes: bool,
    /// How it reports tokens.
    pub tokens: Reported,
    /// How it reports money.
    pub money: Reported,
    /// Whether it stops by itself at a budget.
    pub budget: bool,
    /// Whether it reports its plan.
    pub plan: bool,
    /// Whether it reports its changes as diffs.
    pub diffs: bool,
    /// Whether it can start subagents.
    pub subagents: bool,
    /// Whether it reports work that goes on after its turn.
    pub background: bool,
    /// Whether its protocol takes images.
    pub images: bool,
    /// Whether afk can choose its model.
    pub models: bool,
    /// The reason of each cell that says no, in terms of the agent's own protocol.
    pub no: BTreeMap<String, String>,
}

impl Abilities {
    /// The abilities of which the cockpit makes use.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: self.steers,
            interrupt: self.interrupts,
            permissions: !self.asks.is_empty(),
            edits: self.edits,
            reads_refusals: self.reads_refusals,
            questions: self.questions,
            plan: self.plan,
            diffs: self.diffs,
            cost: match (self.money, self.tokens) {
                (Reported::No, Reported::No) => Cost::Unreported,
                (Reported::No, _) => Cost::Tokens,
                _ => Cost::Usd,
            },
            budget: self.budget,
            resume: self.resumes,
        }
    }

    /// The cells of the row: the name of each column, and its text.
    #[must_use]
    pub fn cells(&self) -> Vec<(&'static str, String)> {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let asks: Vec<&str> = self.asks.iter().map(|tool| tool.as_str()).collect();
        let steers = match self.steers {
            Steer::MidTurn => "mid-turn",
            Steer::AfterTurn => "after the turn",
            Steer::Unsupported => "no",
        };
        vec![
            ("asks", if asks.is_empty() { "no".to_owned() } else { asks.join(", ") }),
            ("edits", yes(self.edits)),
            ("reads_refusals", yes(self.reads_refusals)),
            ("questions", yes(self.questions)),
            ("steers", steers.to_owned()),
            ("interrupts", yes(self.interrupts)),
            ("resumes", yes(self.resumes)),
            ("tokens", self.tokens.as_str().to_owned()),
            ("money", self.money.as_str().to_owned()),
            ("budget", yes(self.budget)),
            ("plan", yes(self.plan)),
            ("diffs", yes(self.diffs)),
            ("subagents", yes(self.subagents)),
            ("background", yes(self.background)),
            ("images", yes(self.images)),
            ("models", yes(self.models)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::agent::presets;

    #[test]
    fn every_no_has_its_reason() {
        for (name, preset) in presets() {
            let mut reasons: Vec<&str> = preset.can.no.keys().map(String::as_str).collect();
            for (cell, text) in preset.can.cells() {
                let reason = reasons.iter().position(|known| *known == cell);
                let is_no = text == "no" || (cell == "steers" && text != "mid-turn");
                assert_eq!(reason.is_some(), is_no, "{name}: {cell} is {text:?}");
                reason.map(|at| reasons.remove(at));
            }
            assert_eq!(reasons, Vec::<&str>::new(), "{name} gives reasons for no cell");
            assert!(preset.can.no.values().all(|why| why.len() > 10), "{name}");
        }
    }

    #[test]
    fn cockpit_offers_what_the_table_tells() {
        let can = presets()["claude"].can.capabilities();
        assert!(can.permissions && can.edits && can.questions && can.budget);
        assert_eq!((can.steer, can.cost), (Steer::MidTurn, Cost::Usd));
        let can = presets()["gemini"].can.capabilities();
        assert_eq!((can.steer, can.cost, can.resume), (Steer::AfterTurn, Cost::Tokens, false));
        assert_eq!(Abilities::default().capabilities(), Capabilities::default());
    }
}
