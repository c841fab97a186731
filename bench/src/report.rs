//! What came out: a table of medians and ranges for people, all figures as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    figure::{Figure, Point},
    servers::Kind,
};

/// The figures of one measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) round: u32,
    pub(crate) server: Kind,
    pub(crate) figures: Vec<Figure>,
}

/// The middle of all rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    min: f64,
    max: f64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    pub(crate) unit: &'static str,
    more_is_better: bool,
    /// In the order of the servers; `None` where one was not measured.
    pub(crate) spreads: Vec<Option<Spread>>,
    /// wharf's median divided by that of the better native server.
    to_native: Option<f64>,
    /// wharf's median divided by that of its transport alone: the price of the sandbox.
    to_null: Option<f64>,
    /// Where it stands in a chart.
    pub(crate) point: Option<Point>,
}

/// The table, as Markdown.
pub(crate) fn table(rows: &[Row], servers: &[Kind]) -> String {
    let split = servers.contains(&Kind::WharfNull) && servers.contains(&Kind::Wharf);
    let mut heads: Vec<_> = servers.iter().map(ToString::to_string).collect();
    heads.push("wharf / better native".to_owned());
    if split {
        heads.push("wharf / wharf-null".to_owned());
    }
    let mut out = format!("| | {} |\n", heads.join(" | "));
    out.push_str(&"|---".repeat(heads.len() + 1));
    out.push_str("|\n");
    for row in rows {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |n| format!("{n:.2}"));
        let mut cells: Vec<_> = row.spreads.iter().map(|spread| cell(*spread)).collect();
        cells.push(ratio(row.to_native));
        if split {
            cells.push(ratio(row.to_null));
        }
        // Writing to a string does not fail.
        _ = writeln!(
            out,
            "| {} ({}) | {} |",
            row.name,
            row.unit,
            cells.join(" | ")
        );
    }
    out
}

/// Every figure of every round, and the rows of the table.
pub(crate) fn json(runs: &[Run], rows: &[Row], servers: &[Kind]) -> anyhow::Result<Vec<u8>> {
    let all = serde_json::json!({
        "wharf": env!("CARGO_PKG_VERSION"),
        "servers": servers,
        "rows": rows,
        "runs": runs,
    });
    Ok(serde_json::to_vec_pretty(&all)?)
}

/// A row for each figure, in the order in which they came.
pub(crate) fn rows(runs: &[Run], servers: &[Kind]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for figure in runs.iter().flat_map(|run| &run.figures) {
        if rows.iter().any(|row| row.name == figure.name) {
            continue;
        }
        let spreads: Vec<_> = servers
            .iter()
            .map(|server| spread(values(runs, *server, &figure.name)))
            .collect();
        let to = |other: &dyn Fn(Kind) -> bool| ratio(servers, &spreads, figure, other);
        rows.push(Row {
            name: figure.name.clone(),
            unit: figure.unit,
            more_is_better: figure.more_is_better,
            to_native: to(&Kind::is_native),
            to_null: to(&|server| server == Kind::WharfNull),
            spreads,
            point: figure.point.clone(),
        });
    }
    rows
}

fn values(runs: &[Run], server: Kind, name: &str) -> Vec<f64> {
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

/// wharf's median divided by the best of those others.
fn ratio(
    servers: &[Kind],
    spreads: &[Option<Spread>],
    figure: &Figure,
    others: &dyn Fn(Kind) -> bool,
) -> Option<f64> {
    let median = |wanted: &dyn Fn(Kind) -> bool| {
        let found = servers.iter().zip(spreads);
        let medians =
            found.filter_map(|(server, spread)| wanted(*server).then_some(spread.as_ref()?.median));
        medians.reduce(if figure.more_is_better {
            f64::max
        } else {
            f64::min
        })
    };
    let other = median(others).filter(|other| *other > 0.0)?;
    Some(median(&|server| server == Kind::Wharf)? / other)
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
    fn wharf_is_compared_with_the_better_native_server_and_with_its_transport_alone() {
        let servers = [
            Kind::Native,
            Kind::NativeWtransport,
            Kind::WharfNull,
            Kind::Wharf,
        ];
        for (more_is_better, to_native) in [(false, 1.5), (true, 0.75)] {
            let run = |server, value| Run {
                round: 1,
                server,
                figures: vec![Figure {
                    more_is_better,
                    ..Figure::less("x", "µs", value)
                }],
            };
            let values = [2.0, 4.0, 1.0, 3.0];
            let runs: Vec<_> = servers.into_iter().zip(values).collect();
            let runs: Vec<_> = runs
                .into_iter()
                .map(|(kind, value)| run(kind, value))
                .collect();
            let row = &rows(&runs, &servers)[0];
            assert_eq!((row.to_native, row.to_null), (Some(to_native), Some(3.0)));
        }
    }
}
