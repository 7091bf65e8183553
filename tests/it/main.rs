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
mod breakglass_agent;
mod breakglass_keys;
mod breakglass_session;
mod breakglass_warnings;
mod callers;
mod checkouts;
mod clocks;
mod cockpit;
mod config_edit;
mod console;
mod crash;
mod daily;
mod damaged_state;
mod demo;
mod deploy;
mod descriptors;
mod doctor;
mod errors;
mod executors;
mod facts;
mod fallbacks;
mod faults;
mod gate;
mod git_files;
mod git_history;
mod git_remotes;
mod github;
mod github_faults;
mod history;
mod host_script;
mod hostile_agents;
mod http;
mod init;
mod leader;
mod long_outages;
mod look_again;
mod manifests;
mod night;
mod operate;
mod operator;
mod operators;
mod outages;
mod pages;
mod pod_security;
mod power_cut;
mod recorded_journal;
mod remote_change;
mod rollout;
mod secrets;
mod service;
mod service_habits;
mod service_proxy;
mod setup;
mod shipping;
mod signals;
mod sinks;
mod slow_clone;
mod ssh;
mod t3;
mod terminal;
mod tracker_changes;
mod tutorial;
mod two_roles;
mod units;
mod verdicts;
mod woodpecker;
mod workspace_wall;
