//! Attacks from behind the wall. Each is a few lines that a hostile agent could run, and is judged
//! by its effect: the key wasn't read, the port saw no byte, the process lived on.
//!
//! The rows run at each level that this machine allows, as this user and, where this user is root,
//! as an ordinary one. What a level doesn't stop stands in docs/security.md by the row's name;
//! `permitted` runs each of these rows as well, and compares the names.
//!
//! | attack | held by |
//! | --- | --- |
//! | ptrace, `/proc` of others, signals, limits, capabilities | `attacks` |
//! | sockets, abstract sockets, docker, systemd, cron, `at`, dbus | `attacks` |
//! | links, hard links and their races, files that afk inherited | `attacks`; `runtime::wall::tests` |
//! | nested namespaces, mounts and their propagation | `attacks`, `mounts` |
//! | DNS, UDP and TCP to loopback and to other addresses | `network`; names of the proxy: `egress::tests::refusing` |
//! | settings, hooks, monitors, includes, filters, textconv and LFS of a repository | `git` |
//! | alternates, gitlinks, submodules, `.git` replaced | `git`; `tests/it/workspace_wall.rs` |
//! | `git replace`, unsound objects, a poisoned proof | `tests/it/workspace_wall.rs` |
//! | swarms, floods of memory, processes, files and terminals | `ends`, `floods` |
//! | pushes, afk's files, environment, later runs, daemons | `agent` |
//! | another local user, agents of ssh | `users`; planted files: `tests/it/operators.rs` |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and says when it is skipped"
)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod attacks;
mod ends;
mod floods;
mod git;
mod groups;
mod mounts;
mod network;
mod permitted;
mod prison;
mod users;
