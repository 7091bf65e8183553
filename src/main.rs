//! The program: parses, installs hooks and the TLS provider, runs, and gives an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == afk::process::launch::WORD) {
        let code = afk::process::launch::become_program(args);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    ExitCode::SUCCESS
}
