//! A running estimate of the tokens that a turn has used since its agent last reported any. Most
//! agents report at the end of a turn alone, and some never do; the budget must hold before that.
//!
//! A request to the model begins with the first output after a prompt or a tool's result. It reads the
//! whole conversation: as much as the agent reports of its context, and else the bytes that passed
//! here, beside the instructions that every agent adds.

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::{MicroUsd, Spend};

/// The bytes of a token, roughly, in English and in code.
const BYTES: u64 = 4;
/// The tokens of an agent's own instructions and tools, as measured with opencode and copilot.
const INSTRUCTIONS: u64 = 8_000;
/// Prices in US dollars per million tokens for an agent that reports money at the end of its turn and
/// has no configured price: those of a large model without a cache. Such an estimate only leads to an
/// early look at the true figure.
pub(crate) const ASSUMED_PRICE: (f64, f64) = (5.0, 25.0);

/// The estimate; see the module.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    /// The bytes of the conversation that passed in this process.
    bytes: u64,
    /// The context that the agent last reported, in tokens, and `bytes` at that time.
    told: Option<(u64, u64)>,
    /// The requests before the agent reported its context: their number, the tokens that they count for,
    /// and the sum of `bytes` at each of them.
    untold: (u64, u64, u64),
    /// `bytes` at the latest request.
    latest_bytes: u64,
    /// The next output begins a request.
    waits: bool,
    /// What the agent has not reported yet: the tokens read by all requests, those of the latest one,
    /// the number of requests, and the bytes written.
    read: u64,
    latest: u64,
    requests: u64,
    written: u64,
}

const fn length(text: &str) -> u64 {
    text.len() as u64
}

impl Estimate {
    /// A message to the agent begins a request.
    pub(crate) const fn prompt(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(length(text));
        self.waits = true;
    }

    /// Counts an event of the agent.
    pub(crate) fn count(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Text { text } | AgentEvent::Thought { text } => {
                self.output(length(text.as_received()));
            }
            AgentEvent::ToolStart { title, .. } => self.output(length(title.as_received())),
            AgentEvent::Diff { diff, .. } => self.output(length(diff.as_received())),
            AgentEvent::PermissionRequest { .. } | AgentEvent::Question { .. } => self.output(0),
            AgentEvent::ToolEnd { output, .. } => {
                self.bytes = self.bytes.saturating_add(length(output.as_received()));
                self.waits = true;
            }
            AgentEvent::Context(context) => self.tell(context.used),
            _ => {}
        }
    }

    /// Takes the context that the agent reports, and corrects the requests that were guessed before it:
    /// each had less of it by what passed since, of which an agent may have shown its model only a part.
    fn tell(&mut self, used: u64) {
        let (count, guessed, bytes) = std::mem::take(&mut self.untold);
        if count > 0 {
            let since = count.saturating_mul(self.bytes).saturating_sub(bytes) / BYTES;
            let all = count.saturating_mul(used);
            let corrected = all.saturating_sub(since).max(all / 2);
            self.read = self.read.saturating_sub(guessed).saturating_add(corrected);
            let since = (self.bytes - self.latest_bytes) / BYTES;
            self.latest = used.saturating_sub(since).max(used / 2);
        }
        self.told = Some((used, self.bytes));
    }

    fn output(&mut self, bytes: u64) {
        if std::mem::take(&mut self.waits) {
            self.latest = if let Some((tokens, then)) = self.told {
                tokens.saturating_add(self.bytes.saturating_sub(then) / BYTES)
            } else {
                let guess = INSTRUCTIONS + self.bytes / BYTES;
                let (count, guessed, bytes) = self.untold;
                self.untold = (count + 1, guessed + guess, bytes + self.bytes);
                guess
            };
            self.latest_bytes = self.bytes;
            self.read = self.read.saturating_add(self.latest);
            self.requests += 1;
        }
        self.written = self.written.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The tokens that the agent has not reported, marked as an estimate.
    pub(crate) const fn unreported(&self) -> Spend {
        let (tokens_in, tokens_out) = (self.read, self.written / BYTES);
        Spend {
            tokens_in,
            tokens_out,
            usd: MicroUsd(0),
            estimated: MicroUsd(0),
            estimated_tokens: tokens_in.saturating_add(tokens_out),
        }
    }

    /// Completes a report of the latest request alone by the requests before it. The report shows how
    /// far the estimate is from the truth.
    pub(crate) fn complete(&self, report: Spend) -> Spend {
        if self.requests < 2 {
            return report;
        }
        let before = self.read.saturating_sub(self.latest);
        let earlier = if report.tokens_in >= self.latest {
            let more = (self.requests - 1).saturating_mul(report.tokens_in - self.latest);
            before.saturating_add(more)
        } else {
            let scaled =
                u128::from(before) * u128::from(report.tokens_in) / u128::from(self.latest.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let written = (self.written / BYTES).saturating_sub(report.tokens_out);
        Spend {
            tokens_in: report.tokens_in.saturating_add(earlier),
            tokens_out: report.tokens_out.saturating_add(written),
            estimated_tokens: report
                .estimated_tokens
                .saturating_add(earlier)
                .saturating_add(written),
            ..report
        }
    }

    /// Forgets what the agent has reported now.
    pub(crate) const fn reported(&mut self) {
        (self.read, self.latest, self.requests, self.written) = (0, 0, 0, 0);
        self.untold = (0, 0, 0);
    }
}

/// The price of tokens, from prices in US dollars per million.
pub(crate) fn price(spend: Spend, (input, output): (f64, f64)) -> MicroUsd {
    #[allow(clippy::cast_precision_loss, reason = "token counts stay far below 2^52")]
    let usd = (spend.tokens_in as f64 * input + spend.tokens_out as f64 * output) / 1e6;
    MicroUsd::from_usd(usd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::agent_event::ContextUse;

    fn text(bytes: usize) -> AgentEvent {
        AgentEvent::Text { text: "x".repeat(bytes).into() }
    }

    fn tool(output: usize) -> [AgentEvent; 2] {
        let (id, title) = (String::from("t"), "make".into());
        let start =
            AgentEvent::ToolStart { id: id.clone(), kind: "shell".into(), title, parent: None };
        let output = "y".repeat(output).into();
        [start, AgentEvent::ToolEnd { id, title: "".into(), ok: true, code: None, output }]
    }

    #[test]
    fn every_request_reads_the_conversation_again() {
        let mut estimate = Estimate::default();
        estimate.prompt(&"p".repeat(400));
        for event in [text(40), text(40)].iter().chain(&tool(4000)).chain(&[text(4)]) {
            estimate.count(event);
        }
        let spend = estimate.unreported();
        // 100 tokens of the prompt; then 21 written before the tool's 1000.
        let second = INSTRUCTIONS + (400 + 84 + 4000) / 4;
        assert_eq!(spend.tokens_in, INSTRUCTIONS + 100 + second);
        assert_eq!(spend.tokens_out, 88 / 4);
        assert_eq!(spend.estimated_tokens, spend.tokens_in + spend.tokens_out);
        estimate.reported();
        assert_eq!(estimate.unreported(), Spend::default());
    }

    #[test]
    fn context_that_the_agent_reports_is_no_guess() {
        let mut estimate = Estimate::default();
        estimate.prompt("do it");
        estimate.count(&AgentEvent::Context(ContextUse { used: 50_000, size: None }));
        estimate.count(&text(8));
        assert_eq!(estimate.unreported().tokens_in, 50_000);
    }

    #[test]
    fn context_that_is_reported_late_corrects_the_requests_before_it() {
        let mut estimate = Estimate::default();
        estimate.prompt("do it");
        let told = |used| AgentEvent::Context(ContextUse { used, size: None });
        for event in tool(400).iter().chain(&[text(40), told(1_000)]).chain(&tool(400)) {
            estimate.count(event);
        }
        estimate.count(&text(40));
        // The context was 110 tokens smaller at the first request, and 10 at the second one.
        assert_eq!(estimate.unreported().tokens_in, 889 + 990 + 1_101);
        let report = Spend { tokens_in: 1_101, tokens_out: 10, ..Spend::default() };
        assert_eq!(estimate.complete(report).tokens_in, 889 + 990 + 1_101);
    }

    #[test]
    fn invented_figures_saturate() {
        let mut estimate = Estimate::default();
        estimate.prompt("do it");
        estimate.count(&AgentEvent::Context(ContextUse { used: u64::MAX, size: None }));
        for event in tool(400).iter().chain(&tool(400)).chain(&[text(40)]) {
            estimate.count(event);
        }
        assert_eq!(estimate.unreported().tokens_in, u64::MAX);
        let report = Spend { tokens_in: u64::MAX, ..Spend::default() };
        assert_eq!(estimate.complete(report).tokens_in, u64::MAX);
        let mut estimate = Estimate::default();
        estimate.prompt("do it");
        for event in tool(400).iter().chain(&tool(400)).chain(&[text(40)]) {
            estimate.count(event);
        }
        assert_eq!(estimate.complete(report).tokens_in, u64::MAX);
    }

    #[test]
    fn report_of_the_last_request_is_completed() {
        let mut estimate = Estimate::default();
        estimate.prompt("do it");
        for event in tool(400).iter().chain(&tool(400)).chain(&[text(40)]) {
            estimate.count(event);
        }
        let report = |tokens_in| Spend { tokens_in, tokens_out: 10, ..Spend::default() };
        // More than estimated: each request had as much more.
        let completed = estimate.complete(report(20_000));
        assert!((59_000..60_001).contains(&completed.tokens_in), "{completed:?}");
        assert_eq!(completed.estimated_tokens, completed.tokens_in - 20_000 + 2);
        // Less than estimated: each had its share.
        let completed = estimate.complete(report(1_200));
        assert!((3_500..3_601).contains(&completed.tokens_in), "{completed:?}");
        let mut single = Estimate::default();
        single.prompt("do it");
        single.count(&text(40));
        assert_eq!(single.complete(report(5)), report(5));
    }
}
