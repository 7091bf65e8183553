//! The program: installs the panic and error hooks and the TLS provider, parses the command line,
//! runs the command, and prints its failure.
//!
//! A failure that a command foresaw is one line with its causes, a hint, and the exit code of its
//! kind (docs/commands.md). Panics and errors that no command foresaw are reports of color-eyre with
//! the whole chain.

use std::io::Write;
use std::process::ExitCode;

use afk::error::FailureKind;
use clap::Parser;

fn main() -> color_eyre::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let word = args.next();
    let code = afk::process::launch::become_launcher_or_init(word.as_deref(), args);
    if let Some(code) = code {
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    }
    afk::cli::complete();
    // Agents run as the same user: without this call they could read our environment in /proc. Where
    // the kernel refuses the call, nothing is worse than before.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    color_eyre::config::HookBuilder::default().display_env_section(false).install()?;
    // This fails only where a provider is installed already, and `ring` is the only one in the tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match afk::cli::run(afk::cli::Cli::parse()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            let code = ExitCode::from(failure.kind.code());
            match failure.kind {
                FailureKind::Unexpected => {
                    writeln!(std::io::stderr(), "{:?}", color_eyre::Report::new(failure))?;
                }
                _ => writeln!(std::io::stderr(), "{}", failure.report())?,
            }
            Ok(code)
        }
    }
}
