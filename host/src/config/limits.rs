//! The keys of the tables of limits: what each counts, in which tables it may stand, and the field that it reaches.

use std::{collections::BTreeMap, ops::RangeInclusive};

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, json};
use toml::{Spanned, Value};

use super::{
    Config, Route, TenantLimits,
    amount::{Amount, Slot, Unit},
    problem::Report,
};
use crate::{runtime, transport::SessionLimits};

mod rows;
#[cfg(test)]
mod tests;

use rows::ROWS;

/// A table of limits as it was written.
pub(super) type Written = BTreeMap<Spanned<String>, Spanned<Value>>;

/// One key.
struct Row {
    key: &'static str,
    unit: Unit,
    /// What it limits, and what happens beyond.
    about: &'static str,
    /// What makes sense, besides no limit.
    range: RangeInclusive<u64>,
    /// Whether there may be no limit.
    unlimited: bool,
    place: Place,
}

/// In which tables a key may stand, and the field that it reaches from each.
enum Place {
    /// The host's only.
    Host(fn(&mut Config) -> Slot<'_>),
    /// The host's, tenants' and routes': it is about one session, and reaches the transport.
    Session(fn(&mut SessionLimits) -> Slot<'_>),
    /// The same, and reaches the runtime.
    Guest(fn(&mut runtime::Limits) -> Slot<'_>),
    /// Tenants' only: it is about all of a tenant's sessions together.
    Tenant(fn(&mut TenantLimits) -> Slot<'_>),
    /// The host's, tenants' and routes', each about its own sessions together.
    Each(
        fn(&mut Config) -> Slot<'_>,
        fn(&mut TenantLimits) -> Slot<'_>,
        fn(&mut Route) -> Slot<'_>,
    ),
}

/// Whose limits, and where they go.
pub(super) enum Target<'a> {
    Host(&'a mut Config),
    Tenant(&'a mut TenantLimits, &'a mut Own),
    Route(&'a mut Route, &'a mut Own),
}

/// What each session of a tenant, or of a route, may use.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) session: SessionLimits,
    pub(super) runtime: runtime::Limits,
}

/// The tables of limits, by whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Host,
    Tenant,
    Route,
}

impl Level {
    const ALL: [Self; 3] = [Self::Host, Self::Tenant, Self::Route];

    /// The table's key.
    const fn table(self) -> &'static str {
        match self {
            Self::Host => "limits",
            Self::Tenant => "tenant.limits",
            Self::Route => "tenant.route.limits",
        }
    }
}

impl Row {
    const fn new(
        key: &'static str,
        unit: Unit,
        range: RangeInclusive<u64>,
        place: Place,
        about: &'static str,
    ) -> Self {
        Self {
            key,
            unit,
            about,
            range,
            unlimited: false,
            place,
        }
    }

    /// The same, with no limit as a choice.
    const fn or_unlimited(mut self) -> Self {
        self.unlimited = true;
        self
    }

    fn find(key: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.key == key)
    }

    /// The field that the key reaches, where it may stand there.
    fn slot<'a>(&self, target: &'a mut Target<'_>) -> Option<Slot<'a>> {
        Some(match (&self.place, target) {
            (Place::Host(at) | Place::Each(at, ..), Target::Host(config)) => at(config),
            (Place::Session(at), Target::Host(config)) => at(&mut config.transport.session),
            (Place::Guest(at), Target::Host(config)) => at(&mut config.runtime),
            (Place::Session(at), Target::Tenant(_, own) | Target::Route(_, own)) => {
                at(&mut own.session)
            }
            (Place::Guest(at), Target::Tenant(_, own) | Target::Route(_, own)) => {
                at(&mut own.runtime)
            }
            (Place::Tenant(at) | Place::Each(_, at, _), Target::Tenant(limits, _)) => at(limits),
            (Place::Each(_, _, at), Target::Route(route, _)) => at(route),
            (Place::Host(_), Target::Tenant(..) | Target::Route(..))
            | (Place::Tenant(_), Target::Host(_) | Target::Route(..)) => return None,
        })
    }

    const fn stands_in(&self, level: Level) -> bool {
        match self.place {
            Place::Host(_) => matches!(level, Level::Host),
            Place::Session(_) | Place::Guest(_) | Place::Each(..) => true,
            Place::Tenant(_) => matches!(level, Level::Tenant),
        }
    }

    /// Why the key stands where it does, for who looks for it elsewhere.
    const fn reason(&self) -> &'static str {
        match self.place {
            Place::Host(_) => "it counts before the tenant is known, or for the host as a whole",
            Place::Session(_) | Place::Guest(_) => "it counts for each session",
            Place::Tenant(_) => "it counts for all sessions of a tenant together",
            Place::Each(..) => "it counts for all sessions of the table's owner together",
        }
    }

    fn parse(&self, value: &Value) -> Result<Amount, String> {
        let amount = self.unit.parse(value)?;
        match amount {
            Amount::Unlimited if !self.unlimited => Err(format!(
                "cannot be unlimited (give {})",
                self.unit.example()
            )),
            Amount::Of(number) if !self.range.contains(&number) => {
                let show = |number: &u64| self.unit.show(Amount::Of(*number));
                let (least, most) = (show(self.range.start()), show(self.range.end()));
                Err(format!(
                    "{} is out of range (write {least} to {most})",
                    show(&number)
                ))
            }
            Amount::Of(_) | Amount::Unlimited => Ok(amount),
        }
    }
}

/// The limits that are in force at a level, each with the line where it was set; those of the defaults have none.
#[derive(Clone)]
pub(super) struct InForce(BTreeMap<&'static str, (Amount, Option<usize>)>);

impl InForce {
    /// The defaults, of a configuration that has nothing else.
    pub(super) fn defaults(config: &mut Config) -> Self {
        let mut target = Target::Host(config);
        let default = |row: &Row| Some((row.key, (row.slot(&mut target)?.get(), None)));
        Self(ROWS.iter().filter_map(default).collect())
    }

    /// Sets what was written. What is wrong with it, or more than is in force above, is reported and left as it was.
    pub(super) fn set(&mut self, written: &Written, mut target: Target<'_>, report: &mut Report) {
        let lower = !matches!(target, Target::Host(_));
        for (key, value) in written {
            let Some(row) = Row::find(key.get_ref()) else {
                continue; // reported where keys are looked at
            };
            let Some(mut slot) = row.slot(&mut target) else {
                continue;
            };
            let span = value.span();
            let amount = match row.parse(value.get_ref()) {
                Ok(amount) => amount,
                Err(what) => {
                    report.add(&span, what);
                    continue;
                }
            };
            if let Some((above, line)) = self.0.get(row.key).filter(|_| lower)
                && amount > *above
            {
                report.add(&span, raised(row, amount, *above, *line));
                continue;
            }
            slot.set(amount);
            self.0.insert(row.key, (amount, Some(report.line(&span))));
        }
    }
}

fn raised(row: &Row, amount: Amount, above: Amount, line: Option<usize>) -> String {
    let place = match line {
        Some(line) => format!("line {line}"),
        None => "the host, which is the default".to_owned(),
    };
    format!(
        "{} is more than the {} of {place} (lower this, or raise that)",
        row.unit.show(amount),
        row.unit.show(above)
    )
}

/// What to say of a key that is a limit, but may not stand in that table.
pub(super) fn elsewhere(key: &str, table: &str) -> Option<String> {
    let row = Row::find(key)?;
    let tables: Vec<_> = Level::ALL
        .into_iter()
        .filter(|level| row.stands_in(*level))
        .map(|level| format!("[{}]", level.table()))
        .collect();
    let tables = tables.join(" or ");
    let reason = row.reason();
    Some(if table.ends_with("limits") {
        format!("cannot be limited here: {reason} (move it to {tables})")
    } else {
        format!("is a limit (move it to {tables})")
    })
}

/// The schema of `[limits]`.
pub(super) fn host_schema(_: &mut SchemaGenerator) -> Schema {
    schema(Level::Host)
}

/// The schema of `[tenant.limits]`.
pub(super) fn tenant_schema(_: &mut SchemaGenerator) -> Schema {
    schema(Level::Tenant)
}

/// The schema of `[tenant.route.limits]`.
pub(super) fn route_schema(_: &mut SchemaGenerator) -> Schema {
    schema(Level::Route)
}

fn schema(level: Level) -> Schema {
    let defaults = InForce::defaults(&mut Config::new(
        Vec::new(),
        super::Tls::Development,
        Vec::new(),
    ));
    let mut properties = Map::new();
    for row in ROWS.iter().filter(|row| row.stands_in(level)) {
        let mut schema = row.unit.schema(&row.range, row.unlimited);
        schema.insert("description".to_owned(), row.about.into());
        if let (Level::Host, Some((amount, _))) = (level, defaults.0.get(row.key)) {
            schema.insert("default".to_owned(), row.unit.json(*amount));
        }
        properties.insert(row.key.to_owned(), schema.into());
    }
    json_schema!({
        "type": "object",
        "properties": json!(properties),
        "additionalProperties": false,
    })
}
