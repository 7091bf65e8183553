//! The version of this program, with the commit that it was built from (build.rs).

/// The version of the package, such as `0.2.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The first digits of the commit; `unknown` where neither git nor the builder named one.
pub const COMMIT: &str = env!("AFK_COMMIT");
/// The date of the commit, or `unknown`.
pub const DATE: &str = env!("AFK_COMMIT_DATE");
/// The whole version, as `afk --version` prints it: `0.2.0 (1a2b3c4d5e6f 2026-11-30)`. A debug build
/// says so in the parentheses.
pub const WHOLE: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("AFK_COMMIT"),
    " ",
    env!("AFK_COMMIT_DATE"),
    env!("AFK_BUILD"),
    ")"
);
