//! Hot paths run over and over in this process, for a tool that counts instructions.
//!
//! Nothing here waits for time, and one thread runs all of it, so that each turn executes the same instructions.

use std::path::Path;

mod echo;
mod proto;

use echo::Load;

/// What can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HotPath {
    /// A capsule taken out of what came.
    CapsuleDecode,
    /// A capsule made for the next stream in turn.
    MuxSchedule,
    /// A piece of a stream there and back over HTTP/2, by a handler in plain Rust.
    StreamNative,
    /// The same by the component.
    StreamGuest,
    /// A datagram there and back over HTTP/2, by a handler in plain Rust.
    DatagramNative,
    /// The same by the component.
    DatagramGuest,
}

impl HotPath {
    pub(crate) const ALL: [Self; 6] = [
        Self::CapsuleDecode,
        Self::MuxSchedule,
        Self::StreamNative,
        Self::StreamGuest,
        Self::DatagramNative,
        Self::DatagramGuest,
    ];

    /// The word for it on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CapsuleDecode => "capsule-decode",
            Self::MuxSchedule => "mux-schedule",
            Self::StreamNative => "stream-native",
            Self::StreamGuest => "stream-guest",
            Self::DatagramNative => "datagram-native",
            Self::DatagramGuest => "datagram-guest",
        }
    }

    /// How often each turn runs it.
    pub(crate) const fn per_turn(self) -> u32 {
        match self {
            Self::CapsuleDecode => proto::CAPSULES,
            Self::MuxSchedule => proto::STREAMS,
            Self::StreamNative | Self::StreamGuest | Self::DatagramNative | Self::DatagramGuest => {
                echo::BATCH
            }
        }
    }
}

/// Runs a path so many turns.
pub(crate) fn run(path: HotPath, turns: u32, component: &Path) -> anyhow::Result<()> {
    match path {
        HotPath::CapsuleDecode => proto::decode(turns),
        HotPath::MuxSchedule => proto::schedule(turns),
        HotPath::StreamNative => echo::run(Load::Streams, None, turns),
        HotPath::StreamGuest => echo::run(Load::Streams, Some(component), turns),
        HotPath::DatagramNative => echo::run(Load::Datagrams, None, turns),
        HotPath::DatagramGuest => echo::run(Load::Datagrams, Some(component), turns),
    }
}
