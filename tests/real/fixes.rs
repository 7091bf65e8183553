//! Honest fixes: each ends done, with the names of the tests that failed before.

use afk::core::model::run::Outcome;

use crate::project::{Fix, Runner, end_of, facts, folder};

/// Replays a fix and asserts the names in its proof.
async fn replay(fix: Fix, expected: &[&str]) {
    if !fix.is_here() {
        return;
    }
    let ended = end_of(&fix.world(&fix.honest())).await;
    let run = &ended.run;
    let why = run.progress.why.clean();
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{why}\n{}", ended.transcript);
    let mut expected = expected.to_vec();
    let mut names = facts(run, "fail to pass");
    expected.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, expected, "{}", ended.transcript);
    let kept = facts(run, "pass to pass");
    if matches!(fix.runner, Runner::Unity) {
        assert!(kept.is_empty());
        assert_eq!(facts(run, "reservation")[0], "by exit code only");
    } else {
        assert!(kept[0].parse::<usize>().unwrap() > 0, "no test passed before and after");
    }
    record(&fix, names.len(), &kept.concat(), &facts(run, "duration"));
}

/// Writes the fix's row of the table in docs/gate.md.
fn record(fix: &Fix, fixed: usize, kept: &str, durations: &[String]) {
    // Each line is `the head: 1.5 s`.
    let of = |run: &str| -> Vec<f64> {
        let lines = durations.iter().filter(|line| line.starts_with(run));
        let took = |line: &String| line.rsplit_once(": ")?.1.trim_end_matches(" s").parse().ok();
        lines.map(|line| took(line).unwrap()).collect()
    };
    let (red, green) = (of("the new tests on the base"), of("the head: "));
    let old_tests = of("the head with the tests of the base");
    let without = of("the head without change");
    let cell = |seconds: &[f64]| {
        let seconds: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.1}")).collect();
        seconds.join(", ")
    };
    let first = red.first().unwrap_or(&0.0) + green.first().unwrap_or(&0.0);
    let all: f64 = [&red, &green, &old_tests, &without].into_iter().flatten().sum();
    let row = format!(
        "| {} | {} → {} | {} | {fixed} | {kept} | {} | {} | {} | {} | {} | {:.2} |\n",
        fix.package,
        fix.base,
        fix.fixed,
        fix.runner.name(),
        cell(&of("the base as it is")),
        cell(&red),
        cell(&green),
        cell(&old_tests),
        cell(&without),
        all / first,
    );
    let row_file = folder().join("rows").join(format!("{}-{}", fix.package, fix.fixed));
    std::fs::write(row_file, row).unwrap();
}

macro_rules! fixes {
    ($($name:ident: $package:literal $base:literal => $fixed:literal, $runner:ident $($changes:ident)?, $paths:expr, $expected:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs real packages: tests/real.sh fetches them and runs this"]
            async fn $name() {
                let fix = Fix {
                    package: $package,
                    base: $base,
                    fixed: $fixed,
                    paths: &$paths,
                    runner: Runner::$runner,
                    changes_tests: matches!([$(stringify!($changes))?].as_slice(), ["tests_change"]),
                };
                replay(fix, &$expected).await;
            }
        )*
    };
}

fixes! {
    parse_reads_subseconds: "parse" "1.20.0" => "1.20.1", Pytest, ["parse.py", "tests"], [
        "tests/test_parse.py::test_datetime_with_various_subsecond_precision",
        "tests/test_parse.py::test_parser_format",
    ];
    parse_reads_hyphens_in_names: "parse" "1.20.1" => "1.20.2", Pytest, ["parse.py", "tests"], [
        "tests/test_parse.py::test_hyphen_inside_field_name",
        "tests/test_parse.py::test_hyphen_inside_field_name_collision_handling",
    ];
    parse_reads_commas_in_numbers: "parse" "1.20.2" => "1.21.0", Pytest, ["parse.py", "tests"], [
        "tests/test_parse.py::test_numbers",
    ];
    xmltodict_keeps_whitespace: "xmltodict" "0.14.1" => "0.14.2", Pytest tests_change, ["xmltodict.py", "tests"], [
        "tests/test_xmltodict.py::XMLToDictTestCase::test_keep_whitespace",
        "tests/test_xmltodict.py::XMLToDictTestCase::test_skip_whitespace",
    ];
    xmltodict_rejects_angle_brackets: "xmltodict" "0.14.2" => "0.15.0", Pytest, ["xmltodict.py", "tests"], [
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_attribute_name_with_angle_brackets",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_malicious_xmlns_prefix",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_tag_name_with_angle_brackets",
    ];
    xmltodict_rejects_odd_names: "xmltodict" "0.15.0" => "0.15.1", Pytest, ["xmltodict.py", "tests"], [
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_attribute_name_starting_with_bang",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_attribute_name_starting_with_question",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_attribute_name_with_slash",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_attribute_name_with_whitespace",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_names_with_quotes_and_equals",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_non_string_names",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_tag_name_starting_with_bang",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_tag_name_starting_with_question",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_tag_name_with_slash",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_tag_name_with_whitespace",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_xmlns_prefix_starting_with_question_or_bang",
        "tests/test_dicttoxml.py::DictToXMLTestCase::test_rejects_xmlns_prefix_with_slash_or_whitespace",
    ];
    cachetools_has_keys_of_typed_methods: "cachetools" "5.3.3" => "5.4.0", PytestSrc, ["src", "tests"], [
        "tests/test_cachedmethod.py::CachedMethodTest::test_typedmethod_dict",
        "tests/test_cachedmethod.py::CachedMethodTest::test_typedmethod_lru",
    ];
    cachetools_expires_by_the_item: "cachetools" "5.4.0" => "5.5.0", PytestSrc, ["src", "tests"], [
        "tests/test_tlru.py::TLRUCacheTest::test_ttu_expire",
        "tests/test_ttl.py::TTLCacheTest::test_ttl_datetime",
        "tests/test_ttl.py::TTLCacheTest::test_ttl_expire",
    ];
    cachetools_counts_hits_under_a_lock: "cachetools" "5.5.1" => "5.5.2", UnittestSrc, ["src", "tests"], [
        "tests.test_cached.CacheWrapperTest.test_decorator_lock_info",
    ];
    sqlparse_keeps_hints: "sqlparse" "0.5.1" => "0.5.2", Pytest, ["sqlparse", "tests"], [
        "tests/test_format.py::TestFormat::test_strip_comments_preserves_hint",
    ];
    pathspec_negates_by_a_caret: "pathspec" "0.11.1" => "0.11.2", Pytest, ["pathspec", "tests"], [
        "tests/test_gitwildmatch.py::GitWildMatchTest::test_13_issue_77_regex",
        "tests/test_gitwildmatch.py::GitWildMatchTest::test_13_negate_with_caret",
        "tests/test_pathspec.py::PathSpecTest::test_01_empty_path",
        "tests/test_pathspec.py::PathSpecTest::test_09_issue_80_a",
        "tests/test_pathspec.py::PathSpecTest::test_09_issue_80_b",
    ];
    pathspec_returns_a_bool: "pathspec" "0.12.0" => "0.12.1", Pytest, ["pathspec", "tests"], [
        "tests/test_03_pathspec.py::PathSpecTest::test_01_match_file_3_unmatch",
    ];
    shell_quote_escapes_a_colon: "shell-quote" "1.7.2" => "1.7.3", Tape, ["index.js", "test"], [
        "chars for windows paths don't break out > should be strictly equal",
    ];
    shell_quote_keeps_comments: "shell-quote" "1.8.0" => "1.8.1", Tape tests_change, ["parse.js", "test"], [
        "comment > should be deeply equivalent",
        "parse shell commands > comment content is unparsed",
        "parse shell commands > should be deeply equivalent",
        "parse shell commands > start-of-line comment content is unparsed",
    ];
    shell_quote_quotes_nothing: "shell-quote" "1.8.1" => "1.8.2", Tape, ["quote.js", "test"], [
        "empty strings > should be strictly equal",
    ];
    minimist_guards_the_prototype: "minimist" "1.2.5" => "1.2.6", Tape, ["index.js", "test"], [
        "proto pollution (constructor function) > should be strictly equal",
        "proto pollution (constructor function) snyk > should be strictly equal",
    ];
    minimist_reads_aliases: "minimist" "1.2.7" => "1.2.8", Tape, ["index.js", "test"], [
        "- > should be deeply equivalent",
        "--- option value > should be deeply equivalent",
        "short with embedded equals -k=a=b > should be deeply equivalent",
        "short with later equals like -ab=c > should be deeply equivalent",
        "string and alias > opt.string works with multiple aliases",
    ];
    secure_json_parse_knows_unsafe_objects: "secure-json-parse" "4.0.0" => "4.1.0", Tape, ["index.js", "test"], [
        "handles constructor null safely > should be deeply equivalent",
        "parse with safe=false throws on __proto__ > should throw",
        "parse with safe=false throws on constructor > should throw",
        "parse with safe=true and constructorAction=ignore returns object > should be deeply equivalent",
        "parse with safe=true and constructorAction=remove returns null > should be strictly equal",
        "parse with safe=true and protoAction=ignore returns object > should be deeply equivalent",
        "parse with safe=true and protoAction=remove returns null > should be strictly equal",
        "parse with safe=true and reviver > should be strictly equal",
        "parse with safe=true returns null on __proto__ > should be strictly equal",
        "parse with safe=true returns null on constructor > should be strictly equal",
        "parse with safe=true returns null on nested __proto__ > should be strictly equal",
        "parse with safe=true returns null on nested constructor > should be strictly equal",
        "parse with safe=true returns object when valid > should be deeply equivalent",
        "scan with safe=false throws on __proto__ > should throw",
        "scan with safe=false throws on constructor > should throw",
        "scan with safe=true returns null on __proto__ > should be strictly equal",
        "scan with safe=true returns null on constructor > should be strictly equal",
        "scan with safe=true returns object when valid > should be deeply equivalent",
        "should reset stackTraceLimit with safe option > should be deeply equivalent",
        "should reset stackTraceLimit with safe option > should be strictly equal",
    ];
    fastify_error_is_an_instance_across_packages: "fastify-error" "4.1.0" => "4.2.0", NodeTest, ["index.js", "test"], [
        "Readme: All instantiated errors will be instances of the `FastifyError` class. The `FastifyError` class can be required from the module directly.",
        "Readme: Changing the code of an instantiated Error will not change the result of the `instanceof` operator.",
        "Readme: It is possible to create a `FastifyError` that extends another `FastifyError`, created by `createError`, while instanceof working correctly.",
        "check if FastifyError is instantiable",
        "check if createError creates an Error which is instanceof FastifyError",
        "check if createError creates an Error with the right BaseConstructor, which is a FastifyError",
        "ensure that instanceof works accross different installations of the fastify-error module",
    ];
    process_warning_spies: "process-warning" "5.0.0" => "5.1.0", NodeTest, ["index.js", "test"], [
        "Spy ProcessWarning - calls[].arguments",
        "Spy ProcessWarning - unlimited: false",
        "Spy ProcessWarning - unlimited: true",
        "a limited warning can be re-set",
        "emit should emit a given code only once",
        "emit should emit a given code unlimited times",
    ];
    strsim_counts_transpositions: "strsim" "0.10.0" => "0.11.0", CargoTest tests_change, ["src", "tests"], [
        "strsim tests::jaro_diff_with_transposition",
        "strsim tests::jaro_winkler_diff_with_transposition",
        "strsim tests::jaro_winkler_long_prefix",
        "strsim tests::jaro_winkler_names",
        "strsim tests::jaro_winkler_very_long_prefix",
    ];
    shlex_refuses_nul: "shlex" "1.2.0" => "1.3.0", CargoTest tests_change, ["src", "Cargo.toml"], [
        "shlex test_fallible",
    ];
    lexopt_returns_raw_arguments: "lexopt" "0.2.1" => "0.3.0", CargoTest tests_change, ["src"], [
        "lexopt (doc) src/lib.rs - Parser::try_raw_args",
        "lexopt (doc) src/lib.rs - prelude",
    ];
    lexopt_shows_odd_names: "lexopt" "0.3.0" => "0.3.1", CargoTest, ["src"], [
        "lexopt tests::test_errors",
        "lexopt tests::test_lossy_decode",
    ];
    pico_args_refuses_more: "pico-args" "0.4.2" => "0.5.0", CargoTest tests_change, ["src", "tests"], [
        "tests/tests.rs eq_option_err_07",
        "tests/tests.rs opt_free_from_fn_03",
        "tests/tests.rs opt_free_from_fn_04",
    ];
    roxmltree_finds_positions: "roxmltree" "0.19.0" => "0.20.0", CargoTest, ["src", "tests"], [
        "tests/api.rs text_pos_04",
        "tests/api.rs text_pos_05",
        "tests/api.rs text_pos_06",
    ];
    cjson_checks_for_null: "cjson" "1.7.15" => "1.7.15+1", Unity, ["cJSON.c", "tests"], [];
    cjson_reads_long_numbers: "cjson" "1.7.15+1" => "1.7.15+2", Unity tests_change, ["cJSON.c", "tests"], [];
}
