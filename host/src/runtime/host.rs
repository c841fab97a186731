//! What a guest may call: each function a short call on its session, which never suspends.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use wasmtime::{
    ResourceLimiter,
    component::{HasData, Resource, ResourceTable},
};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wharf_proto::id::{Dir, StreamId};

use super::{
    bindings::wharf::webtransport::{
        transport::{Host, HostSession, SessionInfo},
        types::{self, Error, HttpVersion, StreamKind},
    },
    members::{Member, Members},
    memory::Memory,
    wasi::Wasi,
};
use crate::{
    metrics::{Metrics, Opener},
    transport::{self, Closer, CommandError, Session},
};

/// Bytes that a datagram may be longer by as it is sent.
const FRAMING: usize = 8;
/// Bytes of datagrams that share one allocation, which lives as long as the last of them.
const TOGETHER: usize = 64 << 10;

/// The guest's handle of a session: its number among the [`Members`] of the instance.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the generated bindings give it out under its WIT name"
)]
pub struct Handle;

/// What a store holds for its guest.
pub(super) struct State {
    pub(super) wasi: Wasi,
    pub(super) table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) members: Members,
    /// The member whose callback runs, or ran last; none in `admit`.
    pub(super) called: Option<u32>,
    /// Bytes that the host holds for all of them.
    pub(super) held: usize,
    pub(super) timers_max: usize,
    pub(super) metrics: Metrics,
}

/// Lends the store's state to the generated functions.
pub(super) struct Lend;

impl HasData for Lend {
    type Data<'a> = &'a mut State;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.wasi.get(),
            table: &mut self.table,
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.memory.grow_memory(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.grow_failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.memory.grow_table(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.grow_failed();
        Ok(())
    }
}

impl State {
    /// Counts anew what the host holds for a session.
    pub(super) fn weigh(&mut self, number: u32) {
        let Some(member) = self.members.get_mut(number) else {
            return;
        };
        let held = member.session.held();
        let before = std::mem::replace(&mut member.held, held);
        if held != before {
            self.held = self.held - before + held;
            self.memory.hold(self.held);
        }
    }

    /// Tells a session's numbers.
    pub(super) fn publish(&mut self, number: u32) {
        let used = self.memory.used();
        let first = self.members.is_first(number);
        if let Some(member) = self.members.get_mut(number) {
            let stats = &member.label.stats;
            stats.store(&member.session.counts());
            stats.hold(if first { used } else { 0 }, member.held);
        }
    }

    /// A session is gone for which the host held so much.
    pub(super) fn release(&mut self, held: usize) {
        self.held -= held;
        self.memory.hold(self.held);
    }

    /// The member of a handle, to do something with it. One that is not being called is looked at after that: what its
    /// session has to send, or a timer, may not wait for an event of its own.
    fn member(&mut self, handle: &Resource<Handle>) -> Option<&mut Member> {
        let member = self.members.get_mut(handle.rep())?;
        if self.called != Some(handle.rep()) {
            member.waker.wake_by_ref();
        }
        Some(member)
    }

    fn session(&mut self, handle: &Resource<Handle>) -> Result<&mut Session, Error> {
        let member = self.member(handle).ok_or(Error::Closed)?;
        Ok(&mut member.session)
    }

    /// Sends datagrams of those sizes, which lie one after another. Of those that are too large it tells in the end; another
    /// error ends it.
    fn send_all(
        &mut self,
        handle: &Resource<Handle>,
        mut data: &[u8],
        sizes: &[u32],
    ) -> Result<(), Error> {
        let mut room = self.memory.room();
        let session = self.session(handle)?;
        let mut all = Ok(());
        let mut memory = BytesMut::new();
        for (n, &size) in sizes.iter().enumerate() {
            let left = data.len() + (sizes.len() - n) * FRAMING;
            let Some((datagram, after)) = data.split_at_checked(size as usize) else {
                break;
            };
            data = after;
            let sent = match room.checked_sub(datagram.len()) {
                Some(less) => {
                    room = less;
                    if n + 1 < sizes.len() && memory.capacity() < datagram.len() + FRAMING {
                        memory = BytesMut::with_capacity(left.min(TOGETHER));
                    }
                    session.send_datagram_in(datagram, &mut memory)
                }
                None => Err(CommandError::TooLarge),
            };
            match sent {
                Ok(()) => {}
                Err(CommandError::TooLarge) => all = Err(Error::TooLarge),
                Err(other) => {
                    all = Err(error(other));
                    break;
                }
            }
        }
        self.weigh(handle.rep());
        all
    }

    /// Calls the session about one of its streams.
    fn on_stream<T>(
        &mut self,
        handle: &Resource<Handle>,
        id: u64,
        call: impl FnOnce(&mut Session, StreamId) -> Result<T, CommandError>,
    ) -> Result<T, Error> {
        let session = self.session(handle)?;
        let id = StreamId::try_from(id).map_err(|_| Error::UnknownStream)?;
        call(session, id).map_err(error)
    }
}

impl types::Host for State {}

impl Host for State {}

impl HostSession for State {
    fn id(&mut self, handle: Resource<Handle>) -> wasmtime::Result<u64> {
        let member = self.members.get_mut(handle.rep());
        Ok(member.map_or(0, |member| member.label.session))
    }

    fn info(&mut self, handle: Resource<Handle>) -> wasmtime::Result<SessionInfo> {
        let session = self.session(&handle).ok();
        let info = session.as_ref().map(|session| session.info());
        let info = info.unwrap_or_default();
        let http = session.as_ref().map(|session| session.http());
        Ok(SessionInfo {
            http: http.map_or(HttpVersion::Http3, Into::into),
            datagrams_reliable: info.datagrams_reliable,
            streams_bidi: info.streams_bidi,
            streams_uni: info.streams_uni,
            open_credit_bidi: info.open_credit_bidi,
            open_credit_uni: info.open_credit_uni,
            send_credit: info.send_credit,
            receive_credit: info.receive_credit,
            send_buffered: info.send_buffered,
            bytes_sent: info.bytes_sent,
            bytes_received: info.bytes_received,
            datagrams_sent: info.datagrams_sent,
            datagrams_received: info.datagrams_received,
            datagrams_dropped_out: info.datagrams_dropped_out,
            datagrams_dropped_in: info.datagrams_dropped_in,
            rtt_us: info.rtt.and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
            max_datagram_size: info.max_datagram_size,
        })
    }

    fn open_stream(
        &mut self,
        handle: Resource<Handle>,
        kind: StreamKind,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let dir = match kind {
            StreamKind::Bidi => Dir::Bi,
            StreamKind::Uni => Dir::Uni,
        };
        let opened = self
            .session(&handle)
            .and_then(|session| session.open(dir).map_err(error));
        if opened.is_ok()
            && let Some(member) = self.members.get_mut(handle.rep())
        {
            member.label.stats.opened(dir, Opener::Handler);
        }
        Ok(opened.map(u64::from))
    }

    fn send(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
        data: Vec<u8>,
        fin: bool,
    ) -> wasmtime::Result<Result<(), Error>> {
        let room = self.memory.room();
        let sent = self.on_stream(&handle, id, |session, id| {
            // What it holds already is counted, and may stay.
            session.set_room(room.saturating_add(session.held()));
            session.send(id, Bytes::from(data), fin)
        });
        self.weigh(handle.rep());
        Ok(sent)
    }

    fn send_capacity(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        Ok(self.on_stream(&handle, id, Session::send_capacity))
    }

    fn close_stream(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(&handle, id, Session::finish))
    }

    fn reset_stream(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
        code: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(&handle, id, |session, id| session.reset(id, code)))
    }

    fn stop_sending(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
        code: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(&handle, id, |session, id| session.stop(id, code)))
    }

    fn set_priority(
        &mut self,
        handle: Resource<Handle>,
        id: u64,
        priority: i32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(&handle, id, |session, id| {
            session.set_priority(id, priority)
        }))
    }

    fn send_datagram(
        &mut self,
        handle: Resource<Handle>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX); // a guest's memory is no larger
        Ok(self.send_all(&handle, &data, &[size]))
    }

    fn send_datagrams(
        &mut self,
        handle: Resource<Handle>,
        data: Vec<u8>,
        sizes: Vec<u32>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let all = sizes.iter().map(|&size| u64::from(size)).sum::<u64>();
        if all != data.len() as u64 {
            return Ok(Err(Error::Invalid(format!(
                "sizes come to {all} bytes, and there are {}",
                data.len()
            ))));
        }
        Ok(self.send_all(&handle, &data, &sizes))
    }

    fn drain(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        if let Ok(session) = self.session(&handle) {
            session.drain();
        }
        Ok(())
    }

    fn close(
        &mut self,
        handle: Resource<Handle>,
        code: u32,
        reason: String,
    ) -> wasmtime::Result<()> {
        if let Ok(session) = self.session(&handle) {
            session.close(code, &reason, Closer::Local);
        }
        Ok(())
    }

    fn set_timer(
        &mut self,
        handle: Resource<Handle>,
        after_ms: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let timers_max = self.timers_max;
        let member = self.member(&handle);
        let Some(member) = member.filter(|member| !member.session.is_closed()) else {
            return Ok(Err(Error::Closed));
        };
        let Some(due) = Instant::now().checked_add(Duration::from_millis(after_ms)) else {
            return Ok(Err(Error::Invalid(
                "after-ms is beyond the end of the host's clock".to_owned(),
            )));
        };
        let full = || {
            Error::Invalid(format!(
                "the session has {timers_max} timers already, which is the limit"
            ))
        };
        Ok(member.timers.set(due, timers_max).ok_or_else(full))
    }

    fn cancel_timer(&mut self, handle: Resource<Handle>, timer: u64) -> wasmtime::Result<()> {
        if let Some(member) = self.members.get_mut(handle.rep()) {
            member.timers.cancel(timer);
        }
        Ok(())
    }

    fn export_keying_material(
        &mut self,
        handle: Resource<Handle>,
        label: String,
        context: Vec<u8>,
        len: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        // TLS 1.3 derives at most 255 times its hash, the shortest of which has 32 bytes.
        const LEN_MAX: u32 = 255 * 32;
        if len > LEN_MAX || label.len() > 255 || context.len() > 255 {
            return Ok(Err(Error::Invalid(format!(
                "at most 255 bytes of label and of context, and {LEN_MAX} of keying material"
            ))));
        }
        let mut out = vec![0; len as usize];
        let exported = self.session(&handle).and_then(|session| {
            session
                .export_keying_material(label.as_bytes(), &context, &mut out)
                .map_err(error)
        });
        Ok(exported.map(|()| out))
    }

    fn drop(&mut self, _: Resource<Handle>) -> wasmtime::Result<()> {
        Ok(()) // the session is the host's
    }
}

impl From<transport::HttpVersion> for HttpVersion {
    fn from(version: transport::HttpVersion) -> Self {
        match version {
            transport::HttpVersion::Http3 => Self::Http3,
            transport::HttpVersion::Http2 => Self::Http2,
        }
    }
}

fn error(error: CommandError) -> Error {
    match error {
        CommandError::UnknownStream => Error::UnknownStream,
        CommandError::WrongDirection => Error::WrongDirection,
        CommandError::Finished => Error::Finished,
        CommandError::Reset => Error::Reset,
        CommandError::WouldBlock => Error::WouldBlock,
        CommandError::StreamLimit => Error::StreamLimit,
        CommandError::Draining => Error::Draining,
        CommandError::Closed => Error::Closed,
        CommandError::TooLarge => Error::TooLarge,
        CommandError::Unsupported => Error::Unsupported,
        other => Error::Invalid(other.to_string()),
    }
}
