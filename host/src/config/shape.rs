//! Holds a file against its schema: which keys there are, which must be, and which are tables or lists.
//!
//! What does not fit is reported and taken out, so that the rest can be read. Values are looked at where they are used.

use std::ops::Range;

use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    limits,
    problem::{Report, join},
};

/// The most letters in which a key may differ from the one that is meant.
const TYPOS: usize = 3;

/// Takes what does not fit out of a table.
pub(super) fn fit(
    table: &mut DeTable<'_>,
    span: &Range<usize>,
    path: &str,
    schema: &Value,
    report: &mut Report,
) {
    let known = &schema["properties"];
    let others = &schema["additionalProperties"];
    let mut misfits = Vec::new();
    for (key, value) in &mut *table {
        let name = key.get_ref().as_ref();
        let fits = match known.get(name) {
            Some(schema) => fit_value(value, &join(path, name), schema, report),
            None if others.is_object() => fit_value(value, &join(path, name), others, report),
            None => {
                report.add_key(&key.span(), path, name, unknown(name, path, known));
                false
            }
        };
        if !fits {
            misfits.push(name.to_owned());
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap_or_default();
        if !table.contains_key(key) {
            let about = known[key]["description"].as_str().unwrap_or_default();
            let what = format!("is missing ({})", first_sentence(about));
            report.add_key(span, path, key, what);
        }
    }
    for key in misfits {
        table.remove(key.as_str());
    }
}

/// Whether a value is a table or a list where it must be one.
fn fit_value(
    value: &mut Spanned<DeValue<'_>>,
    path: &str,
    schema: &Value,
    report: &mut Report,
) -> bool {
    let span = value.span();
    let kind = &schema["type"];
    // What may be left out too has two types, of which null is the second.
    let kind = kind.as_str().or_else(|| kind[0].as_str());
    match (kind, value.get_mut()) {
        (Some("object"), DeValue::Table(table)) => {
            fit(table, &span, path, schema, report);
            true
        }
        (Some("object"), _) => {
            report.add(&span, format!("is no table (write [{path}])"));
            false
        }
        (Some("array"), DeValue::Array(values)) => {
            let mut fits = true;
            if schema["minItems"].as_u64() > Some(values.len() as u64) {
                report.add(&span, "is empty (list one at least)");
            }
            for value in values.iter_mut() {
                fits &= fit_value(value, path, &schema["items"], report);
            }
            fits
        }
        (Some("array"), DeValue::Table(_)) => {
            report.add(
                &span,
                format!("may be there several times (write [[{path}]])"),
            );
            false
        }
        (Some("array"), _) => {
            report.add(&span, "is no list (write it in brackets: [ … ])");
            false
        }
        _ => true,
    }
}

/// What to say of a key that nobody knows.
fn unknown(key: &str, path: &str, known: &Value) -> String {
    if let Some(elsewhere) = limits::elsewhere(key, path) {
        return elsewhere;
    }
    let known = || known.as_object().into_iter().flat_map(|known| known.keys());
    let near = known()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(typos, known)| *typos <= TYPOS && *typos < known.len())
        .min();
    match near {
        Some((_, near)) => format!("unknown key (did you mean `{near}`?)"),
        None => {
            let known: Vec<_> = known().map(String::as_str).collect();
            format!("unknown key (known here: {})", known.join(", "))
        }
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ")
        .map_or(text, |(first, _)| first)
        .trim_end_matches('.')
}
