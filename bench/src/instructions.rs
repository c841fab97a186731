//! A guard that times nothing: instructions of hot paths, counted by valgrind, beside those on record.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{paths::HotPath, servers};

/// How far a count may be above its record, as a share of it.
const TOLERANCE: f64 = 0.02;
/// Counted runs of a path, in turns: what both have in common is not the path's.
const FEW: u32 = 50;
const MANY: u32 = 1050;
/// Processes of each, of which the middle one counts: `select!` looks at its branches in an order that each process chooses
/// anew, and some are a little dearer.
const PROCESSES: usize = 3;

/// What is on record.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Record {
    /// What the counts were made with: others are not comparable.
    made_with: String,
    /// Instructions of each path.
    paths: BTreeMap<String, f64>,
}

/// What one row of the report is made of.
struct Row {
    name: &'static str,
    of: HotPath,
    /// What of it is not counted.
    without: Option<HotPath>,
}

const ROWS: [Row; 6] = [
    Row {
        name: "capsule decoded",
        of: HotPath::CapsuleDecode,
        without: None,
    },
    Row {
        name: "capsule scheduled, of 64 streams",
        of: HotPath::MuxSchedule,
        without: None,
    },
    Row {
        name: "stream-data callback of 1000 B, with its send",
        of: HotPath::StreamGuest,
        without: Some(HotPath::StreamNative),
    },
    Row {
        name: "datagram callback of 1000 B, with its send",
        of: HotPath::DatagramGuest,
        without: Some(HotPath::DatagramNative),
    },
    Row {
        name: "1000 B of a stream over HTTP/2, both ends",
        of: HotPath::StreamNative,
        without: None,
    },
    Row {
        name: "datagram of 1000 B over HTTP/2, both ends",
        of: HotPath::DatagramNative,
        without: None,
    },
];

/// Counts every path, and fails where one has more than is on record; or puts what was counted on record.
pub(crate) fn run(component: &Path, bless: bool) -> anyhow::Result<()> {
    ensure!(
        cfg!(not(debug_assertions)),
        "instructions are counted of optimized code: add --release"
    );
    let made_with = made_with()?;
    let record = read()?;
    // Compiles the component for the processor that valgrind shows, so that the next find it in the cache.
    total(HotPath::StreamGuest, 1, component)?;
    let mut raw = BTreeMap::new();
    for path in HotPath::ALL {
        crate::say(&format!("counting {}", path.name()));
        raw.insert(path.name(), count(path, component)?);
    }
    let of = |path: HotPath| raw.get(path.name()).copied().unwrap_or_default();
    let counted = ROWS.iter().map(|row| {
        let without = row.without.map_or(0.0, of);
        (row.name.to_owned(), (of(row.of) - without).round())
    });
    let counted = counted.collect();
    let (table, worse) = compare(&record.paths, &counted);
    io::stdout().lock().write_all(table.as_bytes())?;
    if bless {
        let record = Record {
            made_with,
            paths: counted,
        };
        let mut json = serde_json::to_vec_pretty(&record)?;
        json.push(b'\n');
        return fs::write(file(), json).context("the record cannot be written");
    }
    ensure!(
        record.made_with == made_with,
        "the record was made with other tools, so the changes above say nothing; go back to them, or run `instructions \
         --bless` before and after the change that is looked at\nthe record's: {}\nthese: {made_with}",
        record.made_with
    );
    ensure!(
        worse.is_empty(),
        "more instructions than on record by over {} %: {}; where that is worth it, `instructions --bless` puts the new \
         counts on record, and the commit says why",
        TOLERANCE * 100.0,
        worse.join(", ")
    );
    Ok(())
}

/// Instructions of one run of a path.
fn count(path: HotPath, component: &Path) -> anyhow::Result<f64> {
    let median = |turns| {
        let totals = (0..PROCESSES).map(|_| total(path, turns, component));
        let mut totals = totals.collect::<anyhow::Result<Vec<_>>>()?;
        totals.sort_unstable_by(f64::total_cmp);
        totals.get(totals.len() / 2).copied().context("no process")
    };
    let (few, many) = (median(FEW)?, median(MANY)?);
    let runs = f64::from((MANY - FEW) * path.per_turn());
    Ok((many - few) / runs)
}

/// Instructions of a whole process that runs a path so many turns.
fn total(path: HotPath, turns: u32, component: &Path) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let folder = servers::cache_dir().join("callgrind");
    fs::create_dir_all(&folder)?;
    let profile = folder.join(format!("{}.{turns}", path.name()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(["path", path.name(), &turns.to_string()])
        .arg(component)
        .output()
        .context("valgrind does not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{path:?} under valgrind:\n{said}");
    let profile = fs::read_to_string(profile)?;
    let total = profile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "));
    let total = total.context("valgrind's profile has no total")?;
    Ok(total.trim().parse()?)
}

/// The tools on which counts depend.
fn made_with() -> anyhow::Result<String> {
    let valgrind = Command::new("valgrind")
        .arg("--version")
        .stderr(Stdio::null())
        .output();
    let valgrind = match valgrind {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("valgrind is missing, which counts the instructions: apt-get install valgrind")
        }
        valgrind => valgrind.context("valgrind does not start")?,
    };
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .context("no rustc")?;
    let version = |out: &[u8]| String::from_utf8_lossy(out).trim().to_owned();
    Ok(format!(
        "{}, {}",
        version(&rustc.stdout),
        version(&valgrind.stdout)
    ))
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

fn read() -> anyhow::Result<Record> {
    match fs::read(file()) {
        Ok(json) => serde_json::from_slice(&json).context("instructions.json"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(error).context("instructions.json"),
    }
}

/// A table, and the paths that have more than they may.
fn compare(
    record: &BTreeMap<String, f64>,
    counted: &BTreeMap<String, f64>,
) -> (String, Vec<String>) {
    let mut table =
        "| instructions of | on record | now | change |\n|---|---|---|---|\n".to_owned();
    let mut worse = Vec::new();
    for (name, now) in counted {
        let (before, change) = match record.get(name) {
            Some(before) => {
                let change = now / before - 1.0;
                if change > TOLERANCE {
                    worse.push(name.clone());
                }
                (format!("{before:.0}"), format!("{:+.1} %", change * 100.0))
            }
            None => (String::new(), String::new()),
        };
        // Writing to a string does not fail.
        _ = writeln!(table, "| {name} | {before} | {now:.0} | {change} |");
    }
    (table, worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fails_that_has_more_than_the_tolerance_beyond_its_record() {
        let counts = |counts: &[(&str, f64)]| {
            let counts = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count));
            counts.collect()
        };
        let record = counts(&[("a", 1000.0), ("b", 1000.0), ("c", 1000.0)]);
        let now = counts(&[("a", 1019.0), ("b", 1021.0), ("c", 500.0), ("new", 9.0)]);
        let (table, worse) = compare(&record, &now);
        assert_eq!(worse, ["b"]);
        assert!(table.contains("| c | 1000 | 500 | -50.0 % |"), "{table}");
        assert!(table.contains("| new |  | 9 |  |"), "{table}");
    }
}
