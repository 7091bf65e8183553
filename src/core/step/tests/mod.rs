//! Unit tests of the step, one file a subject. [`scenario`] holds the fleet that they step.

mod admission;
mod bounds;
mod breakglass;
mod breakglass_agent;
mod fallback;
mod issue_change;
mod job;
mod operator;
mod outage;
mod outbox;
mod run;
mod scenario;
mod turn;
