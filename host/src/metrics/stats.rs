//! What the task of a session tells of it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use wharf_proto::{contract::Info, id::Dir};

use super::numbers::{BOUNDS, CountedCells, HeldCells, add};

/// The numbers of one session. One task writes them; whoever reads sees what was so a moment ago.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) counted: CountedCells,
    pub(super) held: HeldCells,
    /// How many calls took as long, by [`BOUNDS`].
    pub(super) calls: [AtomicU64; BOUNDS.len()],
    closing: Mutex<Option<Closing>>,
}

/// Who opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// The peer.
    Peer,
    /// The handler.
    Handler,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub cause: Cause,
    /// The close code that both ends know.
    pub code: u32,
}

/// Why a session, or an instance, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The handler closed the session.
    Handler,
    /// The peer closed the session.
    Peer,
    /// The connection was lost, or the peer gave the session up without a word.
    Lost,
    /// The host closed the session: it stops, or the peer broke the protocol.
    Host,
    /// The instance trapped.
    Trapped,
    /// A callback spent more CPU than it may.
    Deadline,
    /// The instance trapped after it was denied memory.
    Memory,
    /// The handler answered what makes no sense.
    Failed,
    /// The host let go of the session before its end.
    Dropped,
}

impl Cause {
    /// Whether the handler is to blame.
    pub(super) const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Trapped | Self::Deadline | Self::Memory | Self::Failed
        )
    }

    /// The word for it in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Peer => "peer",
            Self::Lost => "lost",
            Self::Host => "host",
            Self::Trapped => "trapped",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl Stats {
    /// Takes over what the session says of itself: meant for the moment when its task finds nothing to do.
    pub fn store(&self, info: &Info) {
        let counted = &self.counted;
        counted.bytes_in.store(info.bytes_received, Relaxed);
        counted.bytes_out.store(info.bytes_sent, Relaxed);
        counted.datagrams_in.store(info.datagrams_received, Relaxed);
        counted.datagrams_out.store(info.datagrams_sent, Relaxed);
        let dropped = info.datagrams_dropped_in;
        counted.datagrams_dropped_in.store(dropped, Relaxed);
        let dropped = info.datagrams_dropped_out;
        counted.datagrams_dropped_out.store(dropped, Relaxed);
        let held = &self.held;
        held.streams_bidi.store(info.streams_bidi.into(), Relaxed);
        held.streams_uni.store(info.streams_uni.into(), Relaxed);
        held.send_buffer_bytes.store(info.send_buffered, Relaxed);
    }

    /// Says what the session takes: its instance, in bytes of memories and tables, and what the host holds for it. An
    /// instance that several sessions share is told by one of them.
    pub fn hold(&self, memory: usize, buffers: usize) {
        self.held.memory_bytes.store(memory as u64, Relaxed);
        self.held.buffer_bytes.store(buffers as u64, Relaxed);
    }

    /// Counts a stream.
    pub fn opened(&self, dir: Dir, by: Opener) {
        let counted = &self.counted;
        let cell = match (dir, by) {
            (Dir::Bi, Opener::Peer) => &counted.streams_bidi_by_peer,
            (Dir::Uni, Opener::Peer) => &counted.streams_uni_by_peer,
            (Dir::Bi, Opener::Handler) => &counted.streams_bidi_by_handler,
            (Dir::Uni, Opener::Handler) => &counted.streams_uni_by_handler,
        };
        add(cell, 1);
    }

    /// Counts a call of the handler, and its CPU time.
    pub fn called(&self, cpu: Duration) {
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        add(&self.counted.calls, 1);
        add(&self.counted.cpu_ns, nanos);
        let seconds = cpu.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket {
            add(&self.calls[bucket], 1);
        }
    }

    /// Counts lines of the handler's output that the log did not take.
    pub fn log_lines_dropped(&self, lines: u64) {
        add(&self.counted.log_lines_dropped, lines);
    }

    /// Says how the session ended. The last word counts.
    pub fn closed(&self, closing: Closing) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = Some(closing);
    }

    pub(super) fn closing(&self) -> Closing {
        let closing = *self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing.unwrap_or(Closing {
            cause: Cause::Dropped,
            code: 0,
        })
    }
}
