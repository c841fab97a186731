//! Numbers with a unit: how they are written in a file, shown, and put into a field.

use std::{fmt, ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use serde_json::{Map, json};
use toml::Value;

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Amount {
    /// So many, or bytes, or nanoseconds.
    Of(u64),
    /// No limit: more than any number.
    Unlimited,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Memory.
    Bytes,
    /// Time.
    Time,
}

/// How "no limit" is written.
const UNLIMITED: &str = "unlimited";

impl Unit {
    /// Reads what was written.
    pub(super) fn parse(self, value: &Value) -> Result<Amount, String> {
        let number = match (self, value) {
            (_, Value::String(text)) if text == UNLIMITED => return Ok(Amount::Unlimited),
            (Self::Count | Self::Bytes, Value::Integer(number)) => u64::try_from(*number).ok(),
            (Self::Bytes, Value::String(text)) => text.parse::<ByteSize>().ok().map(|size| size.0),
            (Self::Time, Value::String(text)) => humantime::parse_duration(text)
                .ok()
                .and_then(|time| u64::try_from(time.as_nanos()).ok()),
            _ => None,
        };
        let wrong = || {
            format!(
                "{} is not {} (write {})",
                shown(value),
                self,
                self.example()
            )
        };
        number.map(Amount::Of).ok_or_else(wrong)
    }

    /// How such an amount is written.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Count => "a number such as 64",
            Self::Bytes => "bytes such as \"64MiB\" or 67108864",
            Self::Time => "a time such as \"100ms\" or \"30s\"",
        }
    }

    /// An amount as it would be written, without quotes.
    pub(super) fn show(self, amount: Amount) -> String {
        let Amount::Of(number) = amount else {
            return UNLIMITED.to_owned();
        };
        match self {
            Self::Count => number.to_string(),
            Self::Bytes => bytes(number),
            Self::Time => humantime::format_duration(Duration::from_nanos(number)).to_string(),
        }
    }

    /// An amount as it would be written in JSON.
    pub(super) fn json(self, amount: Amount) -> serde_json::Value {
        match (self, amount) {
            (Self::Count, Amount::Of(number)) => number.into(),
            _ => self.show(amount).into(),
        }
    }

    /// What a JSON schema says of such an amount.
    pub(super) fn schema(
        self,
        range: &RangeInclusive<u64>,
        unlimited: bool,
    ) -> Map<String, serde_json::Value> {
        let number = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
        let text = |examples: [&str; 2]| json!({ "type": "string", "examples": examples });
        let mut either = match self {
            Self::Count => vec![number],
            Self::Bytes => vec![number, text(["256KiB", "64MiB"])],
            Self::Time => vec![text(["100ms", "30s"])],
        };
        if unlimited {
            either.push(json!({ "const": UNLIMITED }));
        }
        Map::from_iter([("anyOf".to_owned(), either.into())])
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "a count",
            Self::Bytes => "a number of bytes",
            Self::Time => "a time",
        })
    }
}

/// A value as it was written, about.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Bytes in the largest unit that divides them.
fn bytes(number: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |shift: u32| number > 0 && number.trailing_zeros() >= shift;
    match units.into_iter().find(|(_, shift)| whole(*shift)) {
        Some((unit, shift)) => format!("{}{unit}", number >> shift),
        None => number.to_string(),
    }
}

/// A field that holds an amount. The largest value of one that counts is "no limit".
pub(super) enum Slot<'a> {
    U32(&'a mut u32),
    U64(&'a mut u64),
    Usize(&'a mut usize),
    Time(&'a mut Duration),
    /// `None` is "no limit".
    TimeOrNone(&'a mut Option<Duration>),
}

impl Slot<'_> {
    pub(super) fn get(&self) -> Amount {
        let time = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (number, most) = match self {
            Self::U32(field) => (u64::from(**field), u64::from(u32::MAX)),
            Self::U64(field) => (**field, u64::MAX),
            Self::Usize(field) => (**field as u64, usize::MAX as u64),
            Self::Time(field) => (time(field), u64::MAX),
            Self::TimeOrNone(field) => (field.as_ref().map_or(u64::MAX, time), u64::MAX),
        };
        if number == most {
            Amount::Unlimited
        } else {
            Amount::Of(number)
        }
    }

    /// Puts an amount into the field; one beyond what the field holds is no limit.
    pub(super) fn set(&mut self, amount: Amount) {
        let number = match amount {
            Amount::Of(number) => number,
            Amount::Unlimited => u64::MAX,
        };
        match self {
            Self::U32(field) => **field = u32::try_from(number).unwrap_or(u32::MAX),
            Self::U64(field) => **field = number,
            Self::Usize(field) => **field = usize::try_from(number).unwrap_or(usize::MAX),
            Self::Time(field) => **field = Duration::from_nanos(number),
            Self::TimeOrNone(field) => {
                **field = (number < u64::MAX).then(|| Duration::from_nanos(number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units_and_shown_the_same() {
        for (unit, written, shown) in [
            (Unit::Count, Value::Integer(64), "64"),
            (Unit::Count, "unlimited".into(), "unlimited"),
            (Unit::Bytes, Value::Integer(65536), "64KiB"),
            (Unit::Bytes, "64MiB".into(), "64MiB"),
            (Unit::Bytes, "1.5 GiB".into(), "1536MiB"),
            (Unit::Bytes, Value::Integer(0), "0"),
            (Unit::Time, "100ms".into(), "100ms"),
            (Unit::Time, "90s".into(), "1m 30s"),
        ] {
            let amount = unit.parse(&written).unwrap();
            assert_eq!(unit.show(amount), shown, "{written:?}");
            let json = unit.json(amount);
            let shown = match json.as_str() {
                Some(text) => Value::String(text.to_owned()),
                None => Value::Integer(json.as_i64().unwrap()),
            };
            assert_eq!(unit.parse(&shown), Ok(amount), "{written:?}");
        }
    }

    #[test]
    fn what_is_no_amount_is_shown_with_an_example() {
        for (unit, written) in [
            (Unit::Count, Value::Integer(-1)),
            (Unit::Count, "64".into()),
            (Unit::Count, Value::Float(1.5)),
            (Unit::Count, "Unlimited".into()),
            (Unit::Bytes, "64 MoB".into()),
            (Unit::Time, Value::Integer(30)),
            (Unit::Time, "30".into()),
            (Unit::Time, Value::Boolean(true)),
        ] {
            let error = unit.parse(&written).unwrap_err();
            assert!(
                error.contains("is not a") && error.contains("(write "),
                "{error}"
            );
        }
    }

    #[test]
    fn no_limit_is_more_than_any_number_and_needs_no_field_of_its_own() {
        assert!(Amount::Unlimited > Amount::Of(u64::MAX));
        let (mut count, mut time) = (0_u32, Some(Duration::ZERO));
        Slot::U32(&mut count).set(Amount::Unlimited);
        Slot::TimeOrNone(&mut time).set(Amount::Unlimited);
        assert_eq!((count, time), (u32::MAX, None));
        assert_eq!(Slot::U32(&mut count).get(), Amount::Unlimited);
        assert_eq!(Slot::TimeOrNone(&mut time).get(), Amount::Unlimited);
    }
}
