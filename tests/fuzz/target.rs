//! Runs the fuzz target that the variable `AFK_FUZZ_TARGET` names.
#![no_main]

use std::sync::OnceLock;

use afk::fuzz::{FuzzTarget, TARGETS};

fn target() -> &'static FuzzTarget {
    static TARGET: OnceLock<&FuzzTarget> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("AFK_FUZZ_TARGET").unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("AFK_FUZZ_TARGET should be one of {}", names.join(", "));
            std::process::exit(2);
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target().run)(data));
