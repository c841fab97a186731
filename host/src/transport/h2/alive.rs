//! Whether the peer of a connection still answers, and how long that takes: PING, now and then.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::Instant;

/// The round-trip time measured last.
#[derive(Debug, Default)]
pub(super) struct Rtt(AtomicU64);

impl Rtt {
    fn set(&self, rtt: Duration) {
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos.max(1), Ordering::Relaxed);
    }

    /// `None` before the first answer.
    pub(super) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// Sends a PING at once and then at each `interval`; ends when none was answered for `timeout`, or the connection is over.
pub(super) async fn watch(mut pings: PingPong, interval: Duration, timeout: Duration, rtt: &Rtt) {
    let mut due = tokio::time::interval(interval.max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let sent = Instant::now();
        if pings.send_ping(Ping::opaque()).is_err() {
            return;
        }
        let answered = poll_fn(|cx| pings.poll_pong(cx));
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(_)) => rtt.set(sent.elapsed()),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
