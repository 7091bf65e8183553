//! The program: installs hooks and the TLS provider, parses, runs, and gives an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> color_eyre::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == afk::process::launch::WORD) {
        let code = afk::process::launch::become_program(args);
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    }
    // Agents run as the same user: without this they could read our environment in /proc. Where the
    // kernel refuses, they are as they would be anyway.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    color_eyre::config::HookBuilder::default().display_env_section(false).install()?;
    // The only provider in the tree; a second installation is the only way to fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match afk::cli::run(afk::cli::Cli::parse()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            writeln!(std::io::stderr(), "{failure}")?;
            Ok(ExitCode::from(failure.kind.code()))
        }
    }
}
