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
}

impl Figure {
    pub(crate) fn less(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            more_is_better: false,
            value,
        }
    }

    pub(crate) fn more(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            more_is_better: true,
            ..Self::less(name, unit, value)
        }
    }
}
