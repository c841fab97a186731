//! Datagrams of 1000 bytes, many in flight; only those that come back count.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::task::JoinSet;
use web_transport_quinn::Session;

use super::{Bounds, Figure, Plan, Target, warm_and_metered};
use crate::process::Server;

/// How many sessions share the load.
const SESSIONS: [u64; 3] = [1, 16, 256];
/// Over all sessions; each has at least one.
const IN_FLIGHT: u64 = 64;
const SIZE: usize = 1000;
/// After this long without an answer all that was sent is lost.
const LOST: Duration = Duration::from_millis(100);

/// What became of the datagrams sent.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sent: u64,
    came: u64,
}

pub(super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for number in SESSIONS {
        let mut sessions = Vec::new();
        for _ in 0..number {
            sessions.push(target.connect().await?);
        }
        let load = |bounds| over(&sessions, bounds);
        let (count, cost) = warm_and_metered(server, plan.seconds, load).await?;
        for session in sessions {
            session.close(0, b"");
        }
        ensure!(count.came > 0, "no datagram came back");
        let on_its_way = number * in_flight(number);
        let lost = count.sent.saturating_sub(count.came + on_its_way);
        let lost = 100.0 * lost as f64 / count.sent as f64;
        let over = match number {
            1 => "1 session".to_owned(),
            _ => format!("{number} sessions"),
        };
        let name = format!("datagram echo, 1000 B, {over}");
        figures.extend([
            Figure::less(
                format!("{name}: server CPU"),
                "µs",
                cost.cpu_us_per(count.came),
            ),
            Figure::more(name, "/s", cost.per_second(count.came)),
            Figure::less(format!("datagrams lost, {over}"), "%", lost),
        ]);
    }
    Ok(figures)
}

/// How many each of so many sessions has in flight.
fn in_flight(sessions: u64) -> u64 {
    (IN_FLIGHT / sessions).max(1)
}

async fn over(sessions: &[Session], bounds: Bounds) -> anyhow::Result<Count> {
    let in_flight = in_flight(sessions.len() as u64);
    let mut loads = JoinSet::new();
    for session in sessions {
        loads.spawn(load(session.clone(), in_flight, bounds));
    }
    let mut all = Count::default();
    while let Some(count) = loads.join_next().await {
        let Count { sent, came } = count??;
        all.sent += sent;
        all.came += came;
    }
    Ok(all)
}

async fn load(session: Session, in_flight: u64, bounds: Bounds) -> anyhow::Result<Count> {
    let mut count = Count::default();
    // Datagrams are numbered: when one comes back, those sent before it are back or lost.
    let mut settled = 0;
    while bounds.allow(count.came) {
        while count.sent - settled < in_flight {
            session.send_datagram(numbered(count.sent))?;
            count.sent += 1;
        }
        match tokio::time::timeout(LOST, session.read_datagram()).await {
            Ok(datagram) => {
                let number = number(&datagram?)?;
                // One of the warm-up may come late.
                if number < count.sent {
                    count.came += 1;
                    settled = settled.max(number + 1);
                }
            }
            Err(_) => settled = count.sent,
        }
    }
    Ok(count)
}

fn numbered(number: u64) -> Bytes {
    let mut datagram = BytesMut::with_capacity(SIZE);
    datagram.put_u64(number);
    datagram.resize(SIZE, 7);
    datagram.freeze()
}

fn number(datagram: &[u8]) -> anyhow::Result<u64> {
    ensure!(datagram.len() == SIZE, "a datagram's echo differs");
    let (number, _) = datagram
        .split_first_chunk()
        .context("a datagram's echo differs")?;
    Ok(u64::from_be_bytes(*number))
}
