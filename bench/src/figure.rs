//! Numbers that were measured, with what they mean.

use serde::Serialize;

/// One number that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Whether more is better.
    pub(crate) more_is_better: bool,
    pub(crate) value: f64,
    /// Where it grows with the number of sessions.
    pub(crate) point: Option<Point>,
}

/// Where a figure stands in a chart of cost against number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    pub(crate) chart: String,
    pub(crate) sessions: u32,
}

impl Figure {
    pub(crate) fn less(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            more_is_better: false,
            value,
            point: None,
        }
    }

    pub(crate) fn more(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            more_is_better: true,
            ..Self::less(name, unit, value)
        }
    }

    /// One point of that chart.
    pub(crate) fn at(self, chart: impl Into<String>, sessions: u32) -> Self {
        let chart = chart.into();
        Self {
            point: Some(Point { chart, sessions }),
            ..self
        }
    }
}
