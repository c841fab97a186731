//! The tables of `tests/README.md` name every behaviour once, and only tests that there are; what is to run over both
//! HTTP versions does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use crate::{harness::root, peer::Http, tidy::rust_files};

/// How many behaviours there are to equal.
const BEHAVIOURS: u32 = 165;

/// Where tests are, and what their names begin with.
const PLACES: &[(&str, &str)] = &[
    ("tests", ""),
    ("host/src", "wharf::"),
    ("host/proto/src", "wharf_proto::"),
];

/// The names of the test functions of a source; those that run over both HTTP versions are one each.
fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in joined(source).lines() {
        if let Some(name) = over_both(line) {
            names.push(name.to_owned());
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(name) = function(line) {
            if marked {
                names.push(name.to_owned());
            }
            marked = false;
        }
    }
    names
}

/// The lines of a source, trimmed, with each `over_both` on one line.
fn joined(source: &str) -> String {
    let mut joined = String::new();
    let mut inside = false;
    for line in source.lines().map(str::trim) {
        joined.push_str(line);
        inside = (inside || line.starts_with("over_both!(")) && !line.ends_with(");");
        joined.push(if inside { ' ' } else { '\n' });
    }
    joined
}

/// The function of which that line makes a test for each HTTP version.
fn over_both(line: &str) -> Option<&str> {
    let arguments = line.strip_prefix("over_both!(")?.strip_suffix(");")?;
    arguments.split_whitespace().next_back()
}

/// The function that begins on that line.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    line.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// The module of a file below its place: `capsule/tests.rs` and `capsule.rs` hold tests of `capsule`.
fn module(file: &Path) -> String {
    let path = file.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    let parts: Vec<_> = parts.filter(|part| part != "tests").collect();
    parts.join("::")
}

fn all_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (place, prefix) in PLACES {
        let place = root().join(place);
        for file in rust_files(&place) {
            let module = module(file.strip_prefix(&place).unwrap());
            for name in tests_in(&fs::read_to_string(&file).unwrap()) {
                names.insert(format!("{prefix}{module}::{name}"));
            }
        }
    }
    names
}

/// The functions of which there is to be a test for each HTTP version, by their names in the tables.
fn behaviours_of_both() -> BTreeSet<String> {
    let place = root().join("tests");
    let mut names = BTreeSet::new();
    for file in rust_files(&place) {
        let source = fs::read_to_string(&file).unwrap();
        // Of this file, the macro's name stands in a text.
        let module = module(file.strip_prefix(&place).unwrap());
        if module != "inventory" {
            let source = joined(&source);
            let both = source.lines().filter_map(over_both);
            names.extend(both.map(|name| format!("{module}::{name}")));
        }
    }
    names
}

/// The tests that this program has.
fn tests_of_this_program() -> BTreeSet<String> {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let listed = program.args(["--list", "--format", "terse"]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect()
}

/// The cells of the rows of the tables below a heading, without their heads.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .skip(2)
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_behaviour_is_listed_exactly_once() {
    let mut times: BTreeMap<u32, u32> = (1..=BEHAVIOURS).map(|number| (number, 0)).collect();
    for row in rows("## The behaviours to equal") {
        for number in row[0].split(", ") {
            let number = number.parse().unwrap_or_else(|_| panic!("{row:?}"));
            *times.entry(number).or_default() += 1;
        }
    }
    times.retain(|number, times| *times != 1 || !(1..=BEHAVIOURS).contains(number));
    assert!(times.is_empty(), "numbers and how often: {times:?}");
}

#[test]
fn every_row_names_tests_that_there_are_or_says_why_not() {
    let known = all_tests();
    let behaviours = rows("## The behaviours to equal");
    let demands = rows("### What is demanded on top");
    let rules = rows("## The rules of the drafts");
    let sandbox = rows("## What a sandbox must hold");
    assert!(demands.len() >= 11 && rules.len() >= 30 && sandbox.len() >= 10);
    let mut faults = Vec::new();
    for row in behaviours
        .iter()
        .chain(&demands)
        .chain(&rules)
        .chain(&sandbox)
    {
        let [.., demand, tests] = &row[..] else {
            panic!("{row:?}");
        };
        let names = quoted(tests);
        let excused = demand.starts_with("None");
        if names.is_empty() && !excused {
            faults.push(format!("no test: {row:?}"));
        }
        let missing = names.into_iter().filter(|name| !known.contains(name));
        faults.extend(missing.map(|name| format!("there is no {name}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_behaviour_of_both_http_versions_is_tested_over_each() {
    let mut tests = tests_of_this_program();
    let half = |name: &String, http: &Http| name.ends_with(&format!("::{}", http.name()));
    tests.retain(|name| Http::ALL.iter().any(|http| half(name, http)));
    let halves = |name: String| {
        let half = move |http: &Http| format!("{name}::{}", http.name());
        Http::ALL.iter().map(half)
    };
    let expected: BTreeSet<_> = behaviours_of_both().into_iter().flat_map(halves).collect();
    assert!(!expected.is_empty());
    let differ: Vec<_> = tests.symmetric_difference(&expected).collect();
    assert!(differ.is_empty(), "in only one of the two: {differ:#?}");
}

#[test]
fn a_test_is_found_by_its_attribute() {
    let source = "
        #[test]
        #[ignore = \"long\"]
        fn one() {}
        fn helper() {}
        #[tokio::test(flavor = \"multi_thread\")]
        async fn two() {}
        #[test]
        fn three(value in 0..9u32) {}
        over_both!(four);
        async fn four(http: Http) {}
        over_both!(#[ignore = \"long\"] five);
        over_both!(
            #[ignore = \"long\"]
            six
        );";
    let names = ["one", "two", "three", "four", "five", "six"];
    assert_eq!(tests_in(source), names);
    assert_eq!(module(Path::new("session/tests/pair.rs")), "session::pair");
    assert_eq!(module(Path::new("capsule/tests.rs")), "capsule");
}
