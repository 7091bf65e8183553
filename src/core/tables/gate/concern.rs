//! What a human must judge, since no run of the tests can.

use crate::model::test_report::TestName;

/// Something that the gate can't decide alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Concern {
    /// A protected file changed.
    Protected,
    /// The head fails tests as they are on the base: these, if it reports names.
    OldTests(Vec<TestName>),
    /// Tests that passed on the base are lost.
    Lost(Vec<TestName>),
    /// The change deletes test files, and no names show which tests are lost with them.
    DeletedTests,
    /// The class of the work has no test that could prove it.
    Class,
    /// Test and code stand in the same hunk, so that no run tells whether the test needs the code.
    OneHunk,
}
