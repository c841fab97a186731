//! The numbers of a session: cells that its task writes, and what was read of them.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

/// The upper bounds of the histogram of calls, in seconds. The last takes what is beyond.
pub(super) const BOUNDS: [f64; 6] = [0.000_01, 0.000_1, 0.001, 0.01, 0.1, f64::INFINITY];

/// Adds to a cell that only one task writes: a load and a store, and no locked instruction.
pub(super) fn add(cell: &AtomicU64, value: u64) {
    let sum = cell.load(Ordering::Relaxed).wrapping_add(value);
    cell.store(sum, Ordering::Relaxed);
}

macro_rules! numbers {
    ($(#[$what:meta])* $name:ident, $cells:ident, { $($(#[$meaning:meta])* $field:ident,)+ }) => {
        $(#[$what])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$meaning])* pub $field: u64,)+
        }

        impl AddAssign<&$name> for $name {
            fn add_assign(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct $cells {
            $(pub(super) $field: AtomicU64,)+
        }

        impl $cells {
            pub(super) fn read(&self) -> $name {
                $name { $($field: self.$field.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

numbers! {
    /// What happened in a session so far.
    Counted, CountedCells, {
        /// Stream bytes given to the handler.
        bytes_in,
        /// Stream bytes handed to the transport.
        bytes_out,
        /// Bidirectional streams that the peer opened.
        streams_bidi_by_peer,
        /// Unidirectional streams that the peer opened.
        streams_uni_by_peer,
        /// Bidirectional streams that the handler opened.
        streams_bidi_by_handler,
        /// Unidirectional streams that the handler opened.
        streams_uni_by_handler,
        /// Datagrams given to the handler.
        datagrams_in,
        /// Datagrams handed to the transport.
        datagrams_out,
        /// Datagrams dropped before the handler saw them.
        datagrams_dropped_in,
        /// Datagrams of the handler dropped before the transport took them.
        datagrams_dropped_out,
        /// Calls of the handler: its start, `admit`, the constructor and the callbacks.
        calls,
        /// CPU time of those, in nanoseconds.
        cpu_ns,
        /// Lines of the handler's output that the log did not take.
        log_lines_dropped,
    }
}

numbers! {
    /// What a session has now.
    Held, HeldCells, {
        /// Open bidirectional streams.
        streams_bidi,
        /// Open unidirectional streams.
        streams_uni,
        /// Bytes taken from the handler that the transport has not accepted yet.
        send_buffer_bytes,
        /// Bytes of the memories and tables of its instance.
        memory_bytes,
        /// Bytes that the host holds for it: send buffers, and what waits to be delivered.
        buffer_bytes,
    }
}
