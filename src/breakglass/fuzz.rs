//! Fuzz targets for what hosts send, and for the files that breakglass reads back.

use std::path::Path;

use super::verb::{
    MAX_STATE, MAX_WARNING, MAX_WARNINGS, MAX_WORD, is_definite, last_verb, vm_state, warnings,
    word_after,
};
use super::{pins, recording};

/// Reads the output of the host's script: each part that is kept has a bound.
pub(crate) fn output(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let warnings = warnings(&text);
    assert!(warnings.len() <= MAX_WARNINGS, "{} warnings are kept", warnings.len());
    assert!(warnings.iter().all(|warning| warning.chars().count() <= MAX_WARNING));
    let state = vm_state(&text).unwrap_or_default();
    assert!(state.chars().count() <= MAX_STATE, "{state:?} is kept as a state");
    let mut words: Vec<String> = word_after(&text, "request ").into_iter().collect();
    if let Some(last) = last_verb(&text) {
        words.extend([last.request, last.verb]);
        words.extend(last.reads);
    }
    assert!(words.iter().all(|word| word.chars().count() <= MAX_WORD), "{words:?} are kept");
    let _ = is_definite(5, &text);
}

/// Reads the pinned keys of hosts: no host has two.
pub(crate) fn pins(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(pins) = pins::Pins::parse(Path::new("known_hosts"), &text) {
        let mut names: Vec<&str> = pins.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), pins.len(), "a host has two pins");
        for (_, key) in &pins {
            let _ = pins::fingerprint(key);
        }
    }
}

/// Reads a recording of a shell: its sizes have bounds, and it is no larger than its file.
pub(crate) fn recording(data: &[u8]) {
    use recording::RecordedEvent;
    let Ok(recording::Asciicast { size, events, .. }) = recording::parse(data) else { return };
    let fits =
        |(columns, rows): (u16, u16)| (2..=500).contains(&columns) && (1..=300).contains(&rows);
    assert!(fits(size), "{size:?} is the size at the start");
    let mut kept = 0;
    for (_, event) in events {
        match event {
            RecordedEvent::Output(bytes) => kept += bytes.len(),
            RecordedEvent::Resize(columns, rows) => assert!(fits((columns, rows))),
        }
    }
    assert!(kept <= data.len(), "{kept} bytes are read from {}", data.len());
}
