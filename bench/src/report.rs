//! What came out: a table of medians and ranges for people, all figures as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::figure::Figure;

/// The figures of one measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) round: u32,
    pub(crate) server: String,
    pub(crate) figures: Vec<Figure>,
}

/// The middle of all rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    more_is_better: bool,
    /// In the order of the servers; `None` where one was not measured.
    spreads: Vec<Option<Spread>>,
    /// wharf's median divided by that of the better native server.
    ratio: Option<f64>,
}

/// The table, as Markdown.
pub(crate) fn table(runs: &[Run], servers: &[String]) -> String {
    let mut out = format!("| | {} | wharf / better native |\n", servers.join(" | "));
    out.push_str(&"|---".repeat(servers.len() + 2));
    out.push_str("|\n");
    for row in rows(runs, servers) {
        let cells: Vec<_> = row.spreads.iter().map(|spread| cell(*spread)).collect();
        let ratio = row
            .ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        // Writing to a string does not fail.
        _ = writeln!(
            out,
            "| {} ({}) | {} | {ratio} |",
            row.name,
            row.unit,
            cells.join(" | ")
        );
    }
    out
}

/// Every figure of every round, and the rows of the table.
pub(crate) fn json(runs: &[Run], servers: &[String]) -> anyhow::Result<Vec<u8>> {
    let all = serde_json::json!({
        "wharf": env!("CARGO_PKG_VERSION"),
        "servers": servers,
        "rows": rows(runs, servers),
        "runs": runs,
    });
    Ok(serde_json::to_vec_pretty(&all)?)
}

fn rows(runs: &[Run], servers: &[String]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for figure in runs.iter().flat_map(|run| &run.figures) {
        if rows.iter().any(|row| row.name == figure.name) {
            continue;
        }
        let spreads: Vec<_> = servers
            .iter()
            .map(|server| spread(values(runs, server, &figure.name)))
            .collect();
        rows.push(Row {
            name: figure.name.clone(),
            unit: figure.unit,
            more_is_better: figure.more_is_better,
            ratio: ratio(servers, &spreads, figure.more_is_better),
            spreads,
        });
    }
    rows
}

fn values(runs: &[Run], server: &str, name: &str) -> Vec<f64> {
    runs.iter()
        .filter(|run| run.server == server)
        .flat_map(|run| &run.figures)
        .filter(|figure| figure.name == name)
        .map(|figure| figure.value)
        .collect()
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        *values.get(middle)?
    } else {
        values.get(middle - 1..=middle)?.iter().sum::<f64>() / 2.0
    };
    Some(Spread { median, min, max })
}

fn ratio(servers: &[String], spreads: &[Option<Spread>], more_is_better: bool) -> Option<f64> {
    let median = |wanted: &dyn Fn(&str) -> bool| {
        let found = servers.iter().zip(spreads);
        let medians =
            found.filter_map(|(server, spread)| wanted(server).then_some(spread.as_ref()?.median));
        medians.reduce(if more_is_better { f64::max } else { f64::min })
    };
    let native = median(&|server| server != "wharf").filter(|native| *native > 0.0)?;
    Some(median(&|server| server == "wharf")? / native)
}

fn cell(spread: Option<Spread>) -> String {
    let number = |value: f64| {
        if value < 10.0 {
            format!("{value:.2}")
        } else if value < 100.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.0}")
        }
    };
    spread.map_or_else(String::new, |Spread { median, min, max }| {
        format!("{} ({}-{})", number(median), number(min), number(max))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        let median = |values: &[f64]| spread(values.to_vec()).map(|spread| spread.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn wharf_is_compared_with_the_better_native_server() {
        let run = |server: &str, value, more_is_better| Run {
            round: 1,
            server: server.to_owned(),
            figures: vec![Figure {
                name: "x".to_owned(),
                unit: "µs",
                more_is_better,
                value,
            }],
        };
        let servers = ["a", "b", "wharf"].map(str::to_owned);
        for (more_is_better, ratio) in [(false, 1.5), (true, 0.75)] {
            let runs: Vec<_> = [("a", 2.0), ("b", 4.0), ("wharf", 3.0)]
                .map(|(server, value)| run(server, value, more_is_better))
                .into();
            assert_eq!(rows(&runs, &servers)[0].ratio, Some(ratio));
        }
    }
}
