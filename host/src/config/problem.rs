//! What is wrong with an operator's file: all of it, each with its place and its remedy.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Everything that is wrong with an operator's file, in the order of the file; one problem at least.
#[derive(Debug)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    line: usize,
    /// The key, with the tables it is in; empty for the file as a whole.
    key: String,
    what: String,
}

impl Problems {
    /// The file cannot even be read.
    pub(super) fn unreadable(file: &Path, what: String) -> Self {
        Self {
            file: file.to_owned(),
            list: vec![Problem {
                line: 1,
                key: String::new(),
                what,
            }],
        }
    }
}

impl fmt::Display for Problems {
    /// A line that counts the problems, and `FILE:LINE: KEY: WHAT (REMEDY)` for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let count = self.list.len();
        let problems = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {problems} in {file}")?;
        for Problem { line, key, what } in &self.list {
            write!(f, "\n{file}:{line}: ")?;
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            write!(f, "{what}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where problems are gathered while a file is looked at.
pub(super) struct Report {
    file: PathBuf,
    /// Where each line begins.
    lines: Vec<usize>,
    /// Where each key and its value stand.
    keys: Vec<(Range<usize>, String)>,
    list: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: &Path, text: &str, table: &DeTable<'_>) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let mut keys = Vec::new();
        index(table, "", &mut keys);
        Self {
            file: file.to_owned(),
            lines: std::iter::once(0).chain(breaks).collect(),
            keys,
            list: Vec::new(),
        }
    }

    /// The line of a place, from 1 on.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|begin| *begin <= span.start)
    }

    /// Something is wrong with the value that stands there.
    pub(super) fn add(&mut self, span: &Range<usize>, what: impl Into<String>) {
        let key = self
            .keys
            .iter()
            .filter(|(value, _)| value.start <= span.start && span.end <= value.end)
            .min_by_key(|(value, _)| value.len())
            .map(|(_, key)| key.clone());
        self.push(span, key.unwrap_or_default(), what.into());
    }

    /// Something is wrong with a key of that name in the table of that key.
    pub(super) fn add_key(
        &mut self,
        span: &Range<usize>,
        table: &str,
        key: &str,
        what: impl Into<String>,
    ) {
        self.push(span, join(table, key), what.into());
    }

    /// Something is wrong with the text itself.
    pub(super) fn add_syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or_default();
        let what = error.message().replace('\n', ", ");
        self.push(&span, String::new(), format!("{what} (the file is TOML)"));
    }

    fn push(&mut self, span: &Range<usize>, key: String, what: String) {
        let line = self.line(span);
        self.list.push(Problem { line, key, what });
    }

    /// Goes on if there is no problem.
    pub(super) fn none(mut self) -> Result<Self, Problems> {
        if self.list.is_empty() {
            return Ok(self);
        }
        self.list.sort_by_key(|problem| problem.line);
        self.list.dedup();
        Err(Problems {
            file: self.file,
            list: self.list,
        })
    }
}

/// A key below a table.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

/// Notes where every key and every value below a table stands.
fn index(table: &DeTable<'_>, path: &str, keys: &mut Vec<(Range<usize>, String)>) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        keys.push((key.span(), path.clone()));
        index_value(value, &path, keys);
    }
}

fn index_value(value: &Spanned<DeValue<'_>>, path: &str, keys: &mut Vec<(Range<usize>, String)>) {
    keys.push((value.span(), path.to_owned()));
    match value.get_ref() {
        DeValue::Table(table) => index(table, path, keys),
        DeValue::Array(values) => values
            .iter()
            .for_each(|value| index_value(value, path, keys)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}
