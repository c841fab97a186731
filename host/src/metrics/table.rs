//! The live sessions of each route, and the sum of those that ended.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    Counted, Held, Stats, View,
    numbers::BOUNDS,
    session::{About, Live},
};

/// Tenant and route.
type Name = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Table {
    routes: Mutex<BTreeMap<Name, Route>>,
}

#[derive(Debug, Default)]
struct Route {
    live: BTreeMap<u64, Arc<Live>>,
    ended: Sum,
}

/// The numbers of several sessions together.
#[derive(Clone, Debug, Default)]
struct Sum {
    counted: Counted,
    held: Held,
    calls: [u64; BOUNDS.len()],
}

impl Sum {
    fn count(&mut self, stats: &Stats) {
        self.counted += &stats.counted.read();
        for (sum, cell) in self.calls.iter_mut().zip(&stats.calls) {
            *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
        }
    }
}

impl Table {
    fn routes(&self) -> MutexGuard<'_, BTreeMap<Name, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, live: Arc<Live>) {
        let mut routes = self.routes();
        let route = routes.entry(name(&live.about)).or_default();
        route.live.insert(live.about.session, live);
    }

    /// Takes a session out, adds its numbers to those of its route, and returns them.
    pub(super) fn remove(&self, live: &Live) -> Counted {
        let mut routes = self.routes();
        let route = routes.entry(name(&live.about)).or_default();
        if route.live.remove(&live.about.session).is_some() {
            route.ended.count(&live.stats);
        }
        live.stats.counted.read()
    }

    pub(super) fn views(&self, tenant: Option<&str>, after: u64, limit: usize) -> Vec<View> {
        let routes = self.routes();
        let mut found: Vec<_> = routes
            .iter()
            .filter(|((name, _), _)| tenant.is_none_or(|tenant| tenant == &**name))
            // No more than `limit` of a route can be among the first.
            .flat_map(|(_, route)| route.live.range(after.saturating_add(1)..).take(limit))
            .map(|(_, live)| live.clone())
            .collect();
        drop(routes);
        found.sort_unstable_by_key(|live| live.about.session);
        found.truncate(limit);
        found.iter().map(|live| live.view()).collect()
    }

    /// Adds the numbers of what came to no session.
    pub(super) fn add(&self, about: &About, stats: &Stats) {
        let mut routes = self.routes();
        routes.entry(name(about)).or_default().ended.count(stats);
    }

    fn sums(&self) -> Vec<(Name, Sum)> {
        let sum = |route: &Route| {
            let mut sum = route.ended.clone();
            for live in route.live.values() {
                sum.count(&live.stats);
                sum.held += &live.stats.held.read();
            }
            sum
        };
        let routes = self.routes();
        let sums = routes
            .iter()
            .map(|(name, route)| (name.clone(), sum(route)));
        sums.collect()
    }
}

fn name(about: &About) -> Name {
    (about.tenant.clone(), about.route.clone())
}

/// A metric that is summed over the sessions of a route.
struct Summed {
    name: &'static str,
    help: &'static str,
    value: Value,
}

/// What is told of a sum, by the labels beside tenant and route.
enum Value {
    Counter(&'static [Sample<Counted>]),
    Seconds(fn(&Counted) -> u64),
    Gauge(&'static [Sample<Held>]),
}

/// The labels of a sample, and where its value is.
type Sample<T> = (Labels, fn(&T) -> u64);

type Labels = &'static [(&'static str, &'static str)];

const IN: Labels = &[("direction", "in")];
const OUT: Labels = &[("direction", "out")];

const SUMMED: &[Summed] = &[
    Summed {
        name: "streams",
        help: "Open streams",
        value: Value::Gauge(&[
            (&[("kind", "bidi")], |held| held.streams_bidi),
            (&[("kind", "uni")], |held| held.streams_uni),
        ]),
    },
    Summed {
        name: "streams_opened",
        help: "Streams opened",
        value: Value::Counter(&[
            (&[("kind", "bidi"), ("by", "peer")], |counted| {
                counted.streams_bidi_by_peer
            }),
            (&[("kind", "uni"), ("by", "peer")], |counted| {
                counted.streams_uni_by_peer
            }),
            (&[("kind", "bidi"), ("by", "handler")], |counted| {
                counted.streams_bidi_by_handler
            }),
            (&[("kind", "uni"), ("by", "handler")], |counted| {
                counted.streams_uni_by_handler
            }),
        ]),
    },
    Summed {
        name: "stream_bytes",
        help: "Stream bytes given to handlers (in) and to the transport (out)",
        value: Value::Counter(&[
            (IN, |counted| counted.bytes_in),
            (OUT, |counted| counted.bytes_out),
        ]),
    },
    Summed {
        name: "datagrams",
        help: "Datagrams given to handlers (in) and to the transport (out)",
        value: Value::Counter(&[
            (IN, |counted| counted.datagrams_in),
            (OUT, |counted| counted.datagrams_out),
        ]),
    },
    Summed {
        name: "datagrams_dropped",
        help: "Datagrams dropped because a queue was full",
        value: Value::Counter(&[
            (IN, |counted| counted.datagrams_dropped_in),
            (OUT, |counted| counted.datagrams_dropped_out),
        ]),
    },
    Summed {
        name: "send_buffer_bytes",
        help: "Bytes taken from handlers that the transport has not accepted yet",
        value: Value::Gauge(&[(&[], |held| held.send_buffer_bytes)]),
    },
    Summed {
        name: "memory_bytes",
        help: "Memory of sessions: of their instances, and of what the host holds for them",
        value: Value::Gauge(&[
            (&[("of", "instance")], |held| held.memory_bytes),
            (&[("of", "buffers")], |held| held.buffer_bytes),
        ]),
    },
    Summed {
        name: "cpu_seconds",
        help: "CPU time of handlers",
        value: Value::Seconds(|counted| counted.cpu_ns),
    },
    Summed {
        name: "log_lines_dropped",
        help: "Lines of handlers' output beyond the rate that the log takes",
        value: Value::Counter(&[(&[], |counted| counted.log_lines_dropped)]),
    },
];

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = self.sums();
        for Summed { name, help, value } in SUMMED {
            let kind = match value {
                Value::Counter(_) | Value::Seconds(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for ((tenant, route), sum) in &sums {
                let labels = [("tenant", &**tenant), ("route", &**route)];
                encode(&mut metric, &labels, value, sum)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "call_seconds",
            "CPU time of each call of a handler: its start, admit, the constructor, the callbacks",
            None,
            MetricType::Histogram,
        )?;
        for ((tenant, route), sum) in &sums {
            let labels = [("tenant", &**tenant), ("route", &**route)];
            let buckets: Vec<_> = BOUNDS.into_iter().zip(sum.calls).collect();
            let count = sum.calls.iter().sum();
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    seconds(sum.counted.cpu_ns),
                    count,
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }
}

fn encode(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str)],
    value: &Value,
    sum: &Sum,
) -> fmt::Result {
    match value {
        Value::Counter(samples) => {
            for (more, value) in *samples {
                metric
                    .encode_family(&[labels, more].concat())?
                    .encode_counter::<NoLabelSet, u64, f64>(&value(&sum.counted), None)?;
            }
        }
        Value::Seconds(value) => metric
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, f64, f64>(&seconds(value(&sum.counted)), None)?,
        Value::Gauge(samples) => {
            for (more, value) in *samples {
                let value = i64::try_from(value(&sum.held)).unwrap_or(i64::MAX);
                metric
                    .encode_family(&[labels, more].concat())?
                    .encode_gauge(&value)?;
            }
        }
    }
    Ok(())
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}
