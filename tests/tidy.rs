//! The shape of the source: who may name whom, and how long a file may grow.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::root;

/// A file longer than this is more than one thing.
const LINES_MAX: usize = 600;

/// What a part of the host never names: the arrows of the README, read backwards. A path names a file or a folder.
const NEVER: &[(&str, &[&str])] = &[
    (
        "host/src",
        // Each inside one place only, below.
        &["quinn::", "h3::", "h3_quinn", "wasmtime::", "wasmtime_wasi"],
    ),
    (
        "host/src/transport",
        &[
            "crate::runtime",
            "crate::router",
            "crate::server",
            "crate::config",
            "crate::cli",
            "wasmtime",
        ],
    ),
    (
        "host/src/runtime",
        &[
            "crate::router",
            "crate::server",
            "crate::config",
            "crate::cli",
            "quinn",
            "transport::h3",
        ],
    ),
    (
        "host/src/router.rs",
        &["crate::server", "crate::cli", "quinn"],
    ),
    ("host/src/router", &["crate::server", "crate::cli", "quinn"]),
    ("host/src/authority.rs", &["crate::"]),
    // A leaf, so that anyone may count.
    ("host/src/metrics.rs", &["crate::"]),
    ("host/src/metrics", &["crate::"]),
    (
        "host/src/admin.rs",
        &[
            "crate::server",
            "crate::router",
            "crate::runtime",
            "crate::transport",
            "crate::cli",
        ],
    ),
    (
        "host/src/config.rs",
        &["crate::server", "crate::router", "crate::cli"],
    ),
    (
        "host/src/config",
        &["crate::server", "crate::router", "crate::cli"],
    ),
    (
        "host/proto/src",
        &[
            "tokio",
            "Instant",
            "SystemTime",
            "std::net",
            "std::thread",
            "std::io::Read",
            "std::io::Write",
            "AsyncRead",
            "std::fs",
        ],
    ),
];

/// Where the libraries that [`NEVER`] keeps out of the rest are at home.
const HOMES: &[&str] = &["host/src/transport", "host/src/runtime"];

#[test]
fn nobody_names_what_lies_behind_a_neighbour() {
    let mut faults = Vec::new();
    for (part, words) in NEVER {
        for file in rust_files(&root().join(part)) {
            let name = relative(&file);
            let at_home = HOMES.iter().any(|home| name.starts_with(home));
            if *part == "host/src" && at_home {
                continue;
            }
            for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
                let code = line.trim_start();
                let word = words.iter().find(|word| names(code, word));
                if let Some(word) = word
                    && !code.starts_with("//")
                {
                    faults.push(format!("{name}:{}: names {word}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let long: Vec<_> = ["host", "guests", "tests", "bench"]
        .iter()
        .flat_map(|part| rust_files(&root().join(part)))
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, file)| format!("{}: {lines} lines", relative(&file)))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_module_says_first_what_it_is_for() {
    let parts = [
        "host/src",
        "host/examples",
        "host/proto/src",
        "guests",
        "tests",
        "bench",
    ];
    let silent: Vec<_> = parts
        .iter()
        .flat_map(|part| rust_files(&root().join(part)))
        .filter(|file| !is_test_of_its_neighbour(file))
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//! "))
        .map(|file| relative(&file))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Whether the word stands there, and not at the end of another (`h3::` in `transport::h3::`).
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

/// A `tests.rs` beside what it tests is described there.
fn is_test_of_its_neighbour(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// The Rust files below a folder, or the file itself; what cargo built is not looked at.
pub(crate) fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_word_is_found_where_it_begins_a_name() {
    assert!(names("use quinn::Connection;", "quinn::"));
    assert!(names("h3::Error", "h3::"));
    assert!(!names("transport::h3::Listener", "h3::"));
    assert!(!names("web_transport_quinn::Client", "quinn::"));
}
