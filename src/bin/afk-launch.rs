//! The launcher as a small program of its own: it starts every program behind the wall, twice for
//! each, and afk itself would take milliseconds more to load. Without this program beside it, afk is
//! its own launcher.

use std::process::ExitCode;

use afk::process::launch;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let word = args.next();
    let code = launch::become_launcher_or_init(word.as_deref(), args).unwrap_or_else(|| {
        use std::io::Write;
        // afk compares this line with its own version.
        let _ = writeln!(std::io::stdout(), "{}", launch::VERSION);
        0
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
