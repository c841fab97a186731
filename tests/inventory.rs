//! The tables of `tests/README.md` name every behaviour once, and only tests that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{harness::root, tidy::rust_files};

/// How many behaviours there are to equal.
const BEHAVIOURS: u32 = 165;

/// Where tests are, and what their names begin with.
const PLACES: &[(&str, &str)] = &[
    ("tests", ""),
    ("host/src", "wharf::"),
    ("host/proto/src", "wharf_proto::"),
];

/// The names of the test functions of a source.
fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
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
    assert!(demands.len() >= 11 && rules.len() >= 30);
    let mut faults = Vec::new();
    for row in behaviours.iter().chain(&demands).chain(&rules) {
        let [.., demand, tests] = &row[..] else {
            panic!("{row:?}");
        };
        let names = quoted(tests);
        let excused = demand.starts_with("HTTP/2, not served yet") || demand.starts_with("None");
        if names.is_empty() && !excused {
            faults.push(format!("no test: {row:?}"));
        }
        let missing = names.into_iter().filter(|name| !known.contains(name));
        faults.extend(missing.map(|name| format!("there is no {name}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
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
        fn three(value in 0..9u32) {}";
    assert_eq!(tests_in(source), ["one", "two", "three"]);
    assert_eq!(module(Path::new("session/tests/pair.rs")), "session::pair");
    assert_eq!(module(Path::new("capsule/tests.rs")), "capsule");
}
