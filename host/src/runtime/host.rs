//! What a guest may call: each function a short call on its session, which never suspends.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wharf_proto::id::{Dir, StreamId};

use super::{
    bindings::wharf::webtransport::{
        transport::{Host, HostSession, SessionInfo},
        types::{self, Error, HttpVersion, StreamKind},
    },
    limits::Budget,
    timers::Timers,
};
use crate::transport::{self, Closer, CommandError, Session};

/// The guest's handle of its session. There is one session in a store, so it says nothing.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the generated bindings give it out under its WIT name"
)]
pub struct Handle;

/// What a store holds for its guest.
pub(super) struct State {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) budget: Budget,
    /// `None` before the session begins, and after it ended.
    pub(super) session: Option<Session>,
    pub(super) number: u64,
    pub(super) timers: Timers,
    pub(super) timers_max: usize,
}

/// Lends the store's state to the generated functions.
pub(super) struct Lend;

impl HasData for Lend {
    type Data<'a> = &'a mut State;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl State {
    fn open_session(&mut self) -> Result<&mut Session, Error> {
        self.session.as_mut().ok_or(Error::Closed)
    }

    /// Calls the session about one of its streams.
    fn on_stream<T>(
        &mut self,
        id: u64,
        call: impl FnOnce(&mut Session, StreamId) -> Result<T, CommandError>,
    ) -> Result<T, Error> {
        let session = self.open_session()?;
        let id = StreamId::try_from(id).map_err(|_| Error::UnknownStream)?;
        call(session, id).map_err(error)
    }
}

impl types::Host for State {}

impl Host for State {}

impl HostSession for State {
    fn id(&mut self, _: Resource<Handle>) -> wasmtime::Result<u64> {
        Ok(self.number)
    }

    fn info(&mut self, _: Resource<Handle>) -> wasmtime::Result<SessionInfo> {
        let info = self.session.as_ref().map(Session::info).unwrap_or_default();
        let http = self.session.as_ref().map(Session::http);
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
        _: Resource<Handle>,
        kind: StreamKind,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let dir = match kind {
            StreamKind::Bidi => Dir::Bi,
            StreamKind::Uni => Dir::Uni,
        };
        let opened = self
            .open_session()
            .and_then(|session| session.open(dir).map_err(error));
        Ok(opened.map(u64::from))
    }

    fn send(
        &mut self,
        _: Resource<Handle>,
        id: u64,
        data: Vec<u8>,
        fin: bool,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(id, |session, id| session.send(id, Bytes::from(data), fin)))
    }

    fn send_capacity(
        &mut self,
        _: Resource<Handle>,
        id: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        Ok(self.on_stream(id, Session::send_capacity))
    }

    fn close_stream(
        &mut self,
        _: Resource<Handle>,
        id: u64,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(id, Session::finish))
    }

    fn reset_stream(
        &mut self,
        _: Resource<Handle>,
        id: u64,
        code: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(id, |session, id| session.reset(id, code)))
    }

    fn stop_sending(
        &mut self,
        _: Resource<Handle>,
        id: u64,
        code: u32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(id, |session, id| session.stop(id, code)))
    }

    fn set_priority(
        &mut self,
        _: Resource<Handle>,
        id: u64,
        priority: i32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.on_stream(id, |session, id| session.set_priority(id, priority)))
    }

    fn send_datagram(
        &mut self,
        _: Resource<Handle>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(self
            .open_session()
            .and_then(|session| session.send_datagram(&data).map_err(error)))
    }

    fn drain(&mut self, _: Resource<Handle>) -> wasmtime::Result<()> {
        if let Some(session) = &mut self.session {
            session.drain();
        }
        Ok(())
    }

    fn close(&mut self, _: Resource<Handle>, code: u32, reason: String) -> wasmtime::Result<()> {
        if let Some(session) = &mut self.session {
            session.close(code, &reason, Closer::Local);
        }
        Ok(())
    }

    fn set_timer(
        &mut self,
        _: Resource<Handle>,
        after_ms: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            return Ok(Err(Error::Closed));
        }
        let Some(due) = Instant::now().checked_add(Duration::from_millis(after_ms)) else {
            return Ok(Err(Error::Invalid(
                "after-ms is beyond the end of the host's clock".to_owned(),
            )));
        };
        let full = || {
            Error::Invalid(format!(
                "the session has {} timers already, which is the limit",
                self.timers_max
            ))
        };
        Ok(self.timers.set(due, self.timers_max).ok_or_else(full))
    }

    fn cancel_timer(&mut self, _: Resource<Handle>, timer: u64) -> wasmtime::Result<()> {
        self.timers.cancel(timer);
        Ok(())
    }

    fn export_keying_material(
        &mut self,
        _: Resource<Handle>,
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
        let exported = self.open_session().and_then(|session| {
            session
                .export_keying_material(label.as_bytes(), &context, &mut out)
                .map_err(error)
        });
        Ok(exported.map(|()| out))
    }

    fn drop(&mut self, handle: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
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
