use std::collections::BTreeSet;

use super::*;
use crate::config::{Tls, load};

/// Reads a file with these tables of limits: the host's, a tenant's, a route's.
fn loaded([host, tenant, route]: [&str; 3]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("handler.wasm"), "").unwrap();
    let text = format!(
        r#"listen = ["127.0.0.1:0"]
[limits]
{host}
[[tenant]]
name = "a"
certificate = "development"
[tenant.limits]
{tenant}
[[tenant.route]]
path = "/"
component = "handler.wasm"
[tenant.route.limits]
{route}
"#
    );
    let file = folder.path().join("wharf.toml");
    std::fs::write(&file, text).unwrap();
    load(&file).map_err(|problems| problems.to_string())
}

fn one(level: Level, line: &str) -> [&str; 3] {
    Level::ALL.map(|each| if each == level { line } else { "" })
}

/// An amount that is not the default, above it or below.
fn other(row: &Row, above: bool) -> u64 {
    let mut config = Config::new(Vec::new(), Tls::Development, Vec::new());
    let mut limits = TenantLimits::default();
    let mut own = own(&config);
    let mut target = if matches!(row.place, Place::Tenant(_)) {
        Target::Tenant(&mut limits, &mut own)
    } else {
        Target::Host(&mut config)
    };
    let default = row.slot(&mut target).unwrap().get();
    match default {
        Amount::Of(default) if above => default + row.range.start().max(&1),
        Amount::Of(default) if row.range.contains(&(default / 2)) => default / 2,
        Amount::Of(default) => default * 2,
        Amount::Unlimited => row.range.start().max(&1) * 7,
    }
}

fn own(config: &Config) -> Own {
    Own {
        session: config.transport.session.clone(),
        runtime: config.runtime.clone(),
    }
}

/// A line of a file.
fn line(row: &Row, amount: Amount) -> String {
    let value = row.unit.json(amount);
    format!("{} = {value}", row.key)
}

/// What the configuration has there, at that level.
fn found(row: &Row, level: Level, config: &mut Config) -> Amount {
    let mut own = own(config);
    if level == Level::Host {
        return row.slot(&mut Target::Host(config)).unwrap().get();
    }
    let tenant = &mut config.tenants[0];
    let route = &mut tenant.routes[0];
    own.runtime = route.runtime.clone().unwrap();
    own.session = route.session.clone().unwrap();
    let mut target = match level {
        Level::Tenant => Target::Tenant(&mut tenant.limits, &mut own),
        Level::Host | Level::Route => Target::Route(route, &mut own),
    };
    row.slot(&mut target).unwrap().get()
}

#[test]
fn every_key_reaches_its_field_from_every_table_that_may_have_it() {
    for row in ROWS {
        for level in Level::ALL {
            if !row.stands_in(level) {
                continue;
            }
            let amount = Amount::Of(other(row, false));
            let mut loaded = loaded(one(level, &line(row, amount))).unwrap();
            let found = found(row, level, &mut loaded);
            assert_eq!(found, amount, "{} of {level:?}", row.key);
        }
    }
}

#[test]
fn a_key_in_a_table_that_may_not_have_it_is_refused_with_the_reason_and_the_right_table() {
    for row in ROWS {
        for level in Level::ALL {
            if row.stands_in(level) {
                continue;
            }
            let error = loaded(one(level, &line(row, Amount::Of(other(row, false))))).unwrap_err();
            let at = Level::ALL.into_iter().find(|level| row.stands_in(*level));
            let key = format!("{}.{}: cannot be limited here", level.table(), row.key);
            assert!(error.contains(&key), "{error}");
            assert!(error.contains(row.reason()), "{error}");
            assert!(error.contains(at.unwrap().table()), "{error}");
        }
    }
}

#[test]
fn a_lower_level_may_not_raise_a_limit_and_is_told_where_the_other_stands() {
    for row in ROWS {
        for level in [Level::Tenant, Level::Route] {
            if !row.stands_in(level) || !row.stands_in(Level::Host) {
                continue;
            }
            let (low, high) = (other(row, false), other(row, true));
            let (low, high) = (low.min(high), low.max(high).max(low + 1));
            let mut lines = one(level, "");
            let (low, high) = (line(row, Amount::Of(low)), line(row, Amount::Of(high)));
            lines[0] = &low;
            lines[if level == Level::Tenant { 1 } else { 2 }] = &high;
            let error = loaded(lines).unwrap_err();
            let key = format!("{}.{}: ", level.table(), row.key);
            assert!(error.contains(&key), "{error}");
            assert!(error.contains(" of line 3 (lower this"), "{error}");
            lines[0] = "";
            if let Err(error) = loaded(lines) {
                assert!(
                    error.contains("of the host, which is the default"),
                    "{error}"
                );
            }
        }
    }
    let raised = loaded(["", "memory = \"32MiB\"", "memory = \"48MiB\""]).unwrap_err();
    assert!(
        raised.contains(":13: tenant.route.limits.memory: 48MiB is more than the 32MiB of line 8"),
        "{raised}"
    );
}

#[test]
fn a_route_has_what_its_tenant_has_and_the_tenant_what_the_host_has() {
    let loaded = loaded(["timers = 9\nhandles = 8", "timers = 7", "memory = 65536"]).unwrap();
    let limits = loaded.tenants[0].routes[0].runtime.clone().unwrap();
    assert_eq!(
        (limits.timers, limits.handles, limits.memory),
        (7, 8, 65536)
    );
}

#[test]
fn zero_is_zero_and_no_limit_is_written_out() {
    let loaded = loaded(["timers = 0", "total-cpu-per-second = \"unlimited\"", ""]).unwrap();
    assert_eq!(loaded.runtime.timers, 0);
    assert_eq!(loaded.tenants[0].limits.cpu_per_second, None);
    for row in ROWS {
        let level = Level::ALL.into_iter().find(|level| row.stands_in(*level));
        let unlimited = self::loaded(one(level.unwrap(), &line(row, Amount::Unlimited)));
        assert_eq!(
            unlimited.is_ok(),
            row.unlimited,
            "{}: {unlimited:?}",
            row.key
        );
    }
}

#[test]
fn an_amount_out_of_range_is_refused_with_the_range() {
    for row in ROWS {
        let level = Level::ALL.into_iter().find(|level| row.stands_in(*level));
        let beyond = Amount::Of(row.range.end() * 2);
        let error = loaded(one(level.unwrap(), &line(row, beyond))).unwrap_err();
        assert!(error.contains("out of range"), "{error}");
    }
}

/// The fields of the library's limits are those that its `Debug` shows: one that no key reaches stays as it is.
#[test]
fn every_limit_of_the_library_has_a_key() {
    /// Not limits.
    const OTHERS: &[&str] = &["reads_wait_for_room"];
    let mut config = Config::new(Vec::new(), Tls::Development, Vec::new());
    let mut limits = TenantLimits::default();
    let shown = |config: &Config, limits: &TenantLimits| {
        format!("{:?}, {:?}, {limits:?}", config.transport, config.runtime)
    };
    let before = shown(&config, &limits);
    for row in ROWS {
        let other = Amount::Of(other(row, false));
        let mut own = own(&config);
        for target in [
            &mut Target::Host(&mut config),
            &mut Target::Tenant(&mut limits, &mut own),
        ] {
            if let Some(mut slot) = row.slot(target) {
                slot.set(other);
            }
        }
    }
    let after = shown(&config, &limits);
    let same: BTreeSet<_> = before
        .split([',', '{'])
        .zip(after.split([',', '{']))
        .filter(|(before, after)| before == after)
        .filter_map(|(field, _)| field.trim().split_once(": "))
        .filter(|(field, value)| !OTHERS.contains(field) && !value.ends_with("Limits"))
        .map(|(field, _)| field)
        .collect();
    assert!(same.is_empty(), "no key reaches {same:?}");
}

#[test]
fn a_peer_is_granted_a_byte_at_least() {
    for level in Level::ALL {
        let error = loaded(one(level, "session-receive-credit = 0")).unwrap_err();
        assert!(error.contains("out of range"), "{error}");
    }
}
