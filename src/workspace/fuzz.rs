//! A fuzz target for the changes that the gate splits into code and tests.

use std::collections::BTreeSet;

use super::hunks::SplitFile;

/// The line between the old and the new file.
const BETWEEN: &[u8] = b"\n=======\n";

/// Splits a change: all pieces together are the new file, and without any it is the old one.
pub(crate) fn hunks(data: &[u8]) {
    let between = memchr::memmem::find(data, BETWEEN);
    let (old, new) = between.map_or((data, &b""[..]), |at| {
        let (old, rest) = data.split_at(at + 1);
        (old, &rest[BETWEEN.len() - 1..])
    });
    let marks = ["%% test".to_owned()];
    for path in ["src/lib.rs", "a.py", "a.zig", "a.d", "a.unknown"] {
        let Ok(file) = SplitFile::new(path, 0, old, new, &marks) else {
            panic!("{path} can't be split");
        };
        assert_eq!(file.without(&[]), new, "the pieces are not the whole change");
        if !file.has_tests() {
            let sources: Vec<usize> = file.sources().map(|(index, _)| index).collect();
            assert_eq!(file.without(&sources), old, "the file without the change is another one");
        }
        let most = old.len() + new.len();
        let tests = file.with_tests_only(&BTreeSet::from(["tests".to_owned()]));
        assert!(tests.len() <= most, "{} bytes of {most}", tests.len());
        let old_tests = file.with_old_tests().unwrap_or_default();
        assert!(old_tests.len() <= most, "{} bytes of {most}", old_tests.len());
    }
}
