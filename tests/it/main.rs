//! Tests against the real program, with git, processes and terminals; one file for each feature.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and says when it is skipped"
)]

#[path = "../support/mod.rs"]
mod support;

mod anchor;
mod approvals;
mod assets;
mod attach;
mod bad_agents;
mod bad_input;
mod breakglass;
mod callers;
mod checkouts;
mod cockpit;
mod console;
mod crash;
mod demo;
mod deploy;
mod descriptors;
mod errors;
mod executors;
mod facts;
mod faults;
mod gate;
mod git_files;
mod git_history;
mod git_remotes;
mod github;
mod github_faults;
mod host_script;
mod hostile_agents;
mod http;
mod init;
mod leader;
mod look_again;
mod operator;
mod operators;
mod outages;
mod pod_security;
mod recorded_journal;
mod rollout;
mod secrets;
mod service;
mod service_proxy;
mod setup;
mod sinks;
mod slow_clone;
mod ssh;
mod t3;
mod tracker_changes;
mod units;
mod verdicts;
mod woodpecker;
mod workspace_wall;
