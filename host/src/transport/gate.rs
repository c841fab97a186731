//! Who may connect: counts connections and handshakes, of each peer's address and in total, over both HTTP versions.
//!
//! An address is one of IPv4, or 64 bits of IPv6, which is what one customer of a network has. It is remembered while it
//! has connections, and at most a second longer for the rate of its handshakes.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Limits;
use crate::metrics::Metrics;

/// How often addresses that nothing is known of any more are looked for, where the table is full.
const SWEEP: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// Counts the connections of a server. Cloning it is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    /// Those among them that have not agreed on anything yet.
    handshakes: usize,
    addresses: HashMap<Network, Known>,
    swept: Option<Instant>,
}

/// Who counts as one peer: an address of IPv4, or the first half of one of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// What is known of an address.
#[derive(Clone, Copy, Debug)]
struct Known {
    connections: usize,
    /// When the next handshake would be due if they came evenly at their rate (the cell rate algorithm, GCRA).
    due: Instant,
}

impl Known {
    fn is_of_use(&self, now: Instant) -> bool {
        self.connections > 0 || self.due > now
    }
}

/// Why a connection may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The address has begun as many handshakes as it may in a second.
    Rate,
    /// As many handshakes are under way as may be.
    Handshakes,
    /// As many addresses are remembered as may be.
    Addresses,
    /// The address has as many connections as it may.
    OfAddress,
    /// There are as many connections as may be.
    Connections,
}

impl Full {
    /// The word for it in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Handshakes => "handshakes-full",
            Self::Addresses => "addresses-full",
            Self::OfAddress => "peer-full",
            Self::Connections => "host-full",
        }
    }

    /// Whether it will have passed within a second or so.
    pub(super) const fn passes(self) -> bool {
        match self {
            Self::Rate | Self::Handshakes | Self::Addresses => true,
            Self::OfAddress | Self::Connections => false,
        }
    }
}

impl Gate {
    pub(super) fn new(limits: Limits, metrics: Metrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                limits,
                metrics,
                state: Mutex::default(),
            }),
        }
    }

    /// Connections that there are, those that are being made among them.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Connections that are being made.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.state().handshakes
    }

    /// Where connections, and those that do not come about, are counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Whether so many handshakes are under way that none should be begun for an address that may not be the sender's own.
    pub(super) fn is_busy(&self) -> bool {
        self.handshakes() > self.inner.limits.handshakes / 2
    }

    /// Lets a connection begin, and counts it as long as the pass lives. Those whose address is not proven to be theirs may
    /// use half of what may come at once, so that nobody uses up another's rate in its name.
    pub(super) fn enter(&self, ip: IpAddr, proven: bool, now: Instant) -> Result<Pass, Full> {
        let (limits, address) = (&self.inner.limits, Network::from(ip));
        let mut state = self.state();
        if state.connections >= limits.connections {
            return Err(Full::Connections);
        }
        if state.handshakes >= limits.handshakes {
            return Err(Full::Handshakes);
        }
        let mut known = match state.addresses.get(&address).copied() {
            Some(known) => known,
            None if state.has_place(limits, now) => Known {
                connections: 0,
                due: now,
            },
            None => return Err(Full::Addresses),
        };
        if known.connections >= limits.connections_per_ip {
            return Err(Full::OfAddress);
        }
        let ahead = if proven { SECOND } else { SECOND / 2 };
        known.due = due(known.due, limits.handshakes_per_ip, ahead, now).ok_or(Full::Rate)?;
        known.connections += 1;
        state.addresses.insert(address, known);
        state.connections += 1;
        state.handshakes += 1;
        Ok(Pass {
            gate: self.clone(),
            address,
            handshaking: true,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether another address can be remembered. Those that have connections are bounded by these.
    fn has_place(&mut self, limits: &Limits, now: Instant) -> bool {
        let most = limits.connections.saturating_add(limits.addresses);
        let swept = |at: Instant| now.saturating_duration_since(at) < SWEEP;
        if self.addresses.len() >= most && !self.swept.is_some_and(swept) {
            self.swept = Some(now);
            self.addresses.retain(|_, known| known.is_of_use(now));
        }
        self.addresses.len() < most
    }
}

/// When the handshake after this one would be due; `None` where this one comes too early. So many may come at once as may
/// come in the time ahead.
fn due(due: Instant, per_second: u32, ahead: Duration, now: Instant) -> Option<Instant> {
    let interval = SECOND.checked_div(per_second)?;
    let due = due.max(now) + interval;
    (due <= now + ahead).then_some(due)
}

/// A connection's place among those there may be.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Gate,
    address: Network,
    handshaking: bool,
}

impl Pass {
    /// The handshake is over.
    pub(super) fn agreed(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.gate.state().handshakes -= 1;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.agreed();
        let mut state = self.gate.state();
        state.connections -= 1;
        if let Some(known) = state.addresses.get_mut(&self.address) {
            known.connections -= 1;
            if !known.is_of_use(Instant::now()) {
                state.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut Limits)) -> Gate {
        let mut limits = Limits::default();
        change(&mut limits);
        Gate::new(limits, Metrics::new())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_begins_a_seconds_worth_of_handshakes_at_once_and_then_keeps_to_its_rate() {
        let gate = gate(|limits| limits.handshakes_per_ip = 4);
        let (a, b, start) = (ip("10.0.0.1"), ip("10.0.0.2"), Instant::now());
        let mut passes: Vec<_> = (0..4)
            .map(|_| gate.enter(a, true, start).unwrap())
            .collect();
        assert_eq!(gate.enter(a, true, start).unwrap_err(), Full::Rate);
        passes.push(gate.enter(b, true, start).unwrap());
        let quarter = Duration::from_millis(250);
        for n in 1..9 {
            let now = start + quarter * n;
            passes.push(gate.enter(a, true, now).unwrap());
            assert_eq!(gate.enter(a, true, now).unwrap_err(), Full::Rate, "{n}");
        }
        // A connection that is over does not give its handshake back.
        passes.clear();
        let now = start + quarter * 8;
        assert_eq!(gate.enter(a, true, now).unwrap_err(), Full::Rate);
        assert_eq!((gate.connections(), gate.handshakes()), (0, 0));
    }

    #[test]
    fn a_rate_of_zero_lets_nobody_in_and_one_without_limit_everybody() {
        let now = Instant::now();
        let none = gate(|limits| limits.handshakes_per_ip = 0);
        assert_eq!(none.enter(ip("::1"), true, now).unwrap_err(), Full::Rate);
        let all = gate(|limits| limits.handshakes_per_ip = u32::MAX);
        let passes: Vec<_> = (0..200).map(|_| all.enter(ip("::1"), true, now)).collect();
        assert!(passes.iter().all(Result::is_ok));
    }

    #[test]
    fn half_an_address_of_ipv6_is_an_address_and_a_mapped_one_is_one_of_ipv4() {
        let gate = gate(|limits| limits.connections_per_ip = 1);
        let now = Instant::now();
        let _first = gate.enter(ip("2001:db8:0:1::1"), true, now).unwrap();
        let same = gate.enter(ip("2001:db8:0:1:ffff::9"), true, now);
        assert_eq!(same.unwrap_err(), Full::OfAddress);
        let _other = gate.enter(ip("2001:db8:0:2::1"), true, now).unwrap();
        let _mapped = gate.enter(ip("::ffff:10.0.0.1"), true, now).unwrap();
        let same = gate.enter(ip("10.0.0.1"), true, now);
        assert_eq!(same.unwrap_err(), Full::OfAddress);
    }

    #[test]
    fn connections_and_handshakes_have_limits_of_their_own() {
        let gate = gate(|limits| (limits.connections, limits.handshakes) = (3, 2));
        let now = Instant::now();
        let enter = |n: u8| gate.enter(ip(&format!("10.0.0.{n}")), true, now);
        let (mut first, second) = (enter(1).unwrap(), enter(2).unwrap());
        assert!(gate.is_busy());
        assert_eq!(enter(3).unwrap_err(), Full::Handshakes);
        first.agreed();
        let _third = enter(3).unwrap();
        assert_eq!(enter(4).unwrap_err(), Full::Connections);
        drop(second);
        assert_eq!((gate.connections(), gate.handshakes()), (2, 1));
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded_and_forgotten_after_a_second() {
        let gate = gate(|limits| {
            (limits.connections, limits.addresses) = (1, 10);
            limits.handshakes_per_ip = 1;
        });
        let start = Instant::now();
        let enter = |n: u8, now| gate.enter(ip(&format!("10.0.0.{n}")), true, now).map(drop);
        for n in 0..11 {
            enter(n, start).unwrap();
        }
        assert_eq!(enter(11, start), Err(Full::Addresses));
        assert_eq!(enter(10, start), Err(Full::Rate), "one that is known");
        let later = start + SECOND;
        enter(11, later).unwrap();
        assert_eq!(gate.state().addresses.len(), 1);
    }
    #[test]
    fn whoever_takes_anothers_address_uses_up_half_of_its_rate_at_most() {
        let gate = gate(|limits| limits.handshakes_per_ip = 10);
        let now = Instant::now();
        let enter = |proven| gate.enter(ip("10.0.0.1"), proven, now);
        let passes: Vec<_> = (0..5).map(|_| enter(false).unwrap()).collect();
        assert_eq!(enter(false).unwrap_err(), Full::Rate);
        assert!(enter(true).is_ok());
        drop(passes);
    }
}
