//! Charts of cost against number of sessions, as SVG.

use std::fmt::Write as _;

use crate::{report::Row, servers::Kind};

/// Of one chart, in pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
/// Around the axes, for what is written there.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 136.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
/// Lines across a chart, at least.
const STEPS: f64 = 4.0;

/// The medians of one server, by number of sessions.
#[derive(Debug)]
struct Line {
    server: Kind,
    points: Vec<(f64, f64)>,
}

/// One chart below the other.
pub(crate) fn svg(rows: &[Row], servers: &[Kind]) -> String {
    let mut charts: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if let Some(point) = &row.point
            && charts.iter().all(|(name, _)| *name != point.chart)
        {
            charts.push((&point.chart, row.unit));
        }
    }
    let height = HEIGHT * charts.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, (name, unit)) in charts.into_iter().enumerate() {
        let lines = lines(rows, servers, name);
        let down = HEIGHT * number as f64;
        // Writing to a string does not fail, here and below.
        _ = writeln!(out, "<g transform=\"translate(0 {down})\">");
        draw(&mut out, &format!("{name} ({unit})"), &lines);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn lines(rows: &[Row], servers: &[Kind], chart: &str) -> Vec<Line> {
    let of_server = |(column, server): (usize, &Kind)| {
        let points = rows.iter().filter_map(|row| {
            let point = row.point.as_ref().filter(|point| point.chart == chart)?;
            let spread = (*row.spreads.get(column)?)?;
            Some((f64::from(point.sessions), spread.median))
        });
        let mut points: Vec<_> = points.collect();
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Line {
            server: *server,
            points,
        }
    };
    let lines = servers.iter().enumerate().map(of_server);
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn draw(out: &mut String, title: &str, lines: &[Line]) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (step_x, max_x) = scale(points().map(|point| point.0).fold(0.0, f64::max));
    let (step_y, max_y) = scale(points().map(|point| point.1).fold(0.0, f64::max));
    let x = |value: f64| LEFT + value / max_x * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / max_y * (HEIGHT - TOP - BOTTOM);
    let (left, right, bottom) = (x(0.0), x(max_x), y(0.0));
    _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"20\" font-weight=\"bold\">{title}</text>"
    );
    for value in multiples(step_y, max_y) {
        let at = y(value);
        _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 8.0,
            at + 4.0
        );
    }
    for value in multiples(step_x, max_x) {
        _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            x(value),
            bottom + 18.0
        );
    }
    _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">sessions</text>",
        f64::midpoint(left, right),
        bottom + 36.0
    );
    for (number, line) in lines.iter().enumerate() {
        let color = color(line.server);
        let place = |&(a, b): &(f64, f64)| format!("{:.1},{:.1}", x(a), y(b));
        let places: Vec<_> = line.points.iter().map(place).collect();
        _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        for (a, b) in &line.points {
            let (a, b) = (x(*a), y(*b));
            _ = writeln!(
                out,
                "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"3\" fill=\"{color}\"/>"
            );
        }
        let down = TOP + 16.0 * number as f64;
        _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{down:.1}\" fill=\"{color}\">{}</text>",
            right + 16.0,
            line.server
        );
    }
}

const fn color(server: Kind) -> &'static str {
    match server {
        Kind::Native => "#0b6e4f",
        Kind::NativeWtransport => "#5a9bd4",
        Kind::NativeQuinn => "#8a6d3b",
        Kind::NativeH2 => "#7b4fa3",
        Kind::WharfNull => "#e08e0b",
        Kind::Wharf => "#c1272d",
    }
}

/// A step of 1, 2 or 5 times a power of ten, and the end of the axis: a multiple of it, at or above the greatest value.
fn scale(greatest: f64) -> (f64, f64) {
    if greatest <= 0.0 {
        return (1.0, 1.0);
    }
    let rough = greatest / STEPS;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .rfind(|step| *step <= rough)
        .unwrap_or(power);
    (step, (greatest / step).ceil() * step)
}

fn multiples(step: f64, max: f64) -> impl Iterator<Item = f64> {
    let numbers = std::iter::successors(Some(0.0), |n| Some(n + 1.0));
    numbers
        .map(move |n| (n * step * 1e6).round() / 1e6)
        .take_while(move |value| *value <= max + step / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        figure::{Figure, Point},
        report::{self, Run},
    };

    #[test]
    fn an_axis_ends_at_a_round_number_that_no_value_exceeds() {
        assert_eq!(scale(10_000.0), (2_000.0, 10_000.0));
        assert_eq!(scale(147.0), (20.0, 160.0));
        assert_eq!(scale(4.0), (1.0, 4.0));
        assert_eq!(scale(0.0), (1.0, 1.0));
    }

    #[test]
    fn each_chart_has_a_line_for_each_server_that_was_measured() {
        let point = |chart: &str, sessions| {
            let chart = chart.to_owned();
            Some(Point { chart, sessions })
        };
        let figure = |chart, sessions, value| Figure {
            point: point(chart, sessions),
            ..Figure::less(format!("{chart} {sessions}"), "KiB", value)
        };
        let runs = [Run {
            round: 1,
            server: Kind::Wharf,
            figures: vec![
                figure("memory", 5000, 2.0),
                figure("memory", 1000, 4.0),
                figure("cpu", 1000, 3.0),
                Figure::less("no part of it", "µs", 9.0),
            ],
        }];
        let servers = [Kind::Native, Kind::Wharf];
        let rows = report::rows(&runs, &servers);
        let memory = lines(&rows, &servers, "memory");
        assert_eq!(memory.len(), 1);
        assert_eq!(memory[0].points, [(1000.0, 4.0), (5000.0, 2.0)]);
        let drawn = svg(&rows, &servers);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(drawn.contains("memory (KiB)") && drawn.contains("cpu (KiB)"));
        assert!(!drawn.contains(">native<"));
    }
}
