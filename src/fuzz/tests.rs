//! Runs the targets on their corpora, on mutations of these, and on inputs that were found by fuzzing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::mutation::mutations;
use super::{FuzzTarget, TARGETS};

/// The mutated inputs of one target.
const CASES: u32 = 48;
/// The longest file of a corpus, in bytes.
const LONGEST: usize = 4096;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fuzz")
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &FuzzTarget) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = std::fs::read_dir(corpora().join(target.name)).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(&file).unwrap())).collect()
}

#[test]
fn each_target_has_a_corpus_and_each_corpus_a_target() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    let folders: BTreeSet<String> = std::fs::read_dir(corpora())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    for target in TARGETS {
        let files = corpus(target);
        assert!(files.len() > 1, "{} has {} files", target.name, files.len());
        for (file, content) in files {
            let length = content.len();
            assert!((1..=LONGEST).contains(&length), "{} has {length} bytes", file.display());
        }
    }
}

#[test]
fn targets_hold_on_their_corpora() {
    for target in TARGETS {
        (target.run)(b"");
        for (file, content) in corpus(target) {
            let held = std::panic::catch_unwind(|| (target.run)(&content));
            assert!(held.is_ok(), "{} does not hold on {}", target.name, file.display());
        }
    }
}

#[test]
fn targets_hold_on_mutations_of_their_corpora() {
    for target in TARGETS {
        let files = corpus(target);
        let input = (any::<Index>(), any::<Index>(), prop::collection::vec(mutations(), 1..6))
            .prop_map(move |(of, other, mutations)| {
                let mut input = of.get(&files).1.clone();
                for mutation in mutations {
                    mutation.apply(&mut input, &other.get(&files).1);
                }
                FuzzInput(input)
            });
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let run = |FuzzInput(input)| {
            (target.run)(&input);
            Ok(())
        };
        if let Err(error) = TestRunner::new(config).run(&input, run) {
            panic!("{}: {error}", target.name);
        }
    }
}

/// An input that a failure shows with its escapes.
#[derive(Clone)]
struct FuzzInput(Vec<u8>);

impl std::fmt::Debug for FuzzInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
