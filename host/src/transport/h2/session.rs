//! A session over HTTP/2: what `wharf_proto`'s `Mux` has to say goes to the body of the CONNECT stream, and back.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::sync::{oneshot, watch};
use wharf_proto::{
    code::HttpCode,
    id::{Dir, Side, StreamId},
    mux::{Chunks, Config, Grants, Mux, Transmit},
};

use super::{connection::Place, settings};
use crate::transport::{
    Closer, CommandError, Event, Info, Quirks, SessionLimits, exporter, phase::Phase,
};

/// Room that is asked for where something is to be sent.
const ROOM: usize = 64 << 10;

type Changed = Pin<Box<dyn Future<Output = Option<watch::Receiver<Phase>>> + Send + Sync>>;

/// A session over HTTP/2, accepted. Its public face is [`transport::Session`](crate::transport::Session).
pub struct Session {
    mux: Mux,
    /// The sending direction of the CONNECT stream.
    send: Sending,
    /// `None` once the peer has ended it.
    recv: Option<RecvStream>,
    /// What the host, or the peer by GOAWAY, wants next.
    changed: Option<Changed>,
    /// The wish of who has a stopper.
    stop: Option<oneshot::Receiver<(u32, String)>>,
    place: Place,
    id: u32,
}

enum Sending {
    Open(SendStream<Chunks>),
    /// FIN is on its way.
    Finished,
    Over,
}

impl Session {
    /// `peer` is what the peer grants.
    pub(super) fn new(
        side: Side,
        limits: &SessionLimits,
        peer: Grants,
        quirks: Quirks,
        send: SendStream<Chunks>,
        recv: RecvStream,
        place: Place,
    ) -> Self {
        let mut mux = Mux::new(Config {
            side,
            order: quirks.fin_order,
            swapped_ids: quirks.swapped_stream_ids,
            local: settings::ours(&place.common.limits),
            peer,
            limits: limits.mux(),
        });
        mux.enlarge(limits.grants());
        let mut phase = place.common.phase.subscribe();
        phase.mark_changed();
        Self {
            mux,
            id: send.stream_id().as_u32(),
            send: Sending::Open(send),
            recv: Some(recv),
            changed: Some(Box::pin(changed(phase))),
            stop: None,
            place,
        }
    }

    pub(in crate::transport) async fn next_event(&mut self) -> Option<Event> {
        if self.mux.is_told() {
            self.tell_end().await;
            return None;
        }
        Some(poll_fn(|cx| self.poll_event(cx)).await)
    }

    pub(in crate::transport) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.mux.poll_event() {
                return Poll::Ready(event);
            }
            if self.mux.is_told() {
                return Poll::Pending;
            }
            let progress = self.transmit(cx) | self.poll_phase(cx) | self.poll_stop(cx);
            if !(self.poll_receive(cx) | progress) {
                return Poll::Pending;
            }
        }
    }

    pub(in crate::transport) async fn finish_closing(mut self: Box<Self>) {
        self.tell_end().await;
    }

    async fn tell_end(&mut self) {
        let timeout = self.place.common.limits.close_timeout;
        let finish = poll_fn(|cx| self.poll_finish(cx));
        // A peer that does not end its side in time is left behind.
        _ = tokio::time::timeout(timeout, finish).await;
    }

    /// What the peer sent before it knew of our close is passed over; what it sends after its own is not.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.transmit(cx);
            match (&self.send, &self.recv) {
                (Sending::Over, _) | (Sending::Finished, None) => return Poll::Ready(()),
                (Sending::Open(_), None) => return Poll::Pending,
                (Sending::Open(_) | Sending::Finished, Some(_)) => {}
            }
            if !self.poll_receive(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Sends what there is to send, as far as HTTP/2 has room, and says whether something went. Otherwise what makes room
    /// wakes the task.
    fn transmit(&mut self, cx: &mut Context<'_>) -> bool {
        let mut sent = false;
        while self.mux.has_transmit() {
            let Sending::Open(send) = &mut self.send else {
                // Nobody is left to be told.
                if self.mux.poll_transmit(ROOM).is_none() {
                    break;
                }
                continue;
            };
            let room = match poll_room(send, cx) {
                Poll::Ready(Some(room)) => room,
                Poll::Pending => 0,
                Poll::Ready(None) => {
                    self.send = Sending::Over; // the receiving side says why
                    continue;
                }
            };
            let Some(transmit) = self.mux.poll_transmit(room) else {
                return sent;
            };
            sent = true;
            self.act(transmit);
        }
        if let Sending::Open(send) = &mut self.send {
            send.reserve_capacity(0); // what is not used is for other sessions
        }
        sent
    }

    fn act(&mut self, transmit: Transmit) {
        let Sending::Open(mut send) = std::mem::replace(&mut self.send, Sending::Over) else {
            return;
        };
        match transmit {
            Transmit::Capsules(chunks) => {
                if send.send_data(chunks, false).is_ok() {
                    self.send = Sending::Open(send);
                }
            }
            Transmit::Fin => {
                if send.send_data(Chunks::default(), true).is_ok() {
                    self.send = Sending::Finished;
                }
            }
            Transmit::Abort(code) => {
                let reason = if code == HttpCode::H3_REQUEST_CANCELLED {
                    Reason::CANCEL
                } else {
                    Reason::PROTOCOL_ERROR
                };
                send.send_reset(reason);
                self.recv = None;
            }
        }
    }

    /// Takes in what came, and says whether something did.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(recv) = &mut self.recv else {
            return false;
        };
        match recv.poll_data(cx) {
            Poll::Pending => return false,
            Poll::Ready(Some(Ok(data))) => {
                // What the mux holds is bounded by the credit of its streams.
                _ = recv.flow_control().release_capacity(data.len());
                self.mux.receive(data);
                return true;
            }
            Poll::Ready(Some(Err(error))) if error.is_reset() => {
                self.mux.receive_abort("the peer aborted the session");
                self.send = Sending::Over;
            }
            Poll::Ready(Some(Err(error))) => {
                self.mux
                    .connection_lost(0, &format!("connection lost: {error}"));
                self.send = Sending::Over;
            }
            Poll::Ready(None) => self.mux.receive_fin(),
        }
        self.recv = None;
        true
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = &mut self.changed else {
            return false;
        };
        let Poll::Ready(phase) = next.as_mut().poll(cx) else {
            return false;
        };
        self.changed = None;
        if let Some(mut phase) = phase {
            match &*phase.borrow_and_update() {
                Phase::Open => {}
                Phase::PeerDraining => self.mux.peer_drains(),
                Phase::Draining => self.mux.ask_to_drain(),
                Phase::Closing(code, reason) => self.mux.close(*code, reason, Closer::Host),
            }
            self.changed = Some(Box::pin(changed(phase)));
        }
        true
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stop) = &mut self.stop else {
            return false;
        };
        let Poll::Ready(wish) = Pin::new(stop).poll(cx) else {
            return false;
        };
        self.stop = None;
        if let Ok((code, reason)) = wish {
            self.mux.close(code, &reason, Closer::Host);
        }
        true
    }

    pub(in crate::transport) fn stopper(&mut self) -> impl FnOnce(u32, &str) + Send + use<> {
        let (sender, stop) = oneshot::channel();
        self.stop = Some(stop);
        // A session that is gone needs no end.
        move |code, reason: &str| _ = sender.send((code, reason.to_owned()))
    }

    pub(in crate::transport) fn id(&self) -> u64 {
        self.id.into()
    }

    pub(in crate::transport) fn open(&mut self, dir: Dir) -> Result<StreamId, CommandError> {
        self.mux.open(dir)
    }

    pub(in crate::transport) fn send(
        &mut self,
        stream: StreamId,
        data: Bytes,
        fin: bool,
    ) -> Result<(), CommandError> {
        self.mux.send(stream, data, fin)
    }

    pub(in crate::transport) fn send_capacity(
        &mut self,
        stream: StreamId,
    ) -> Result<u64, CommandError> {
        self.mux.send_capacity(stream)
    }

    pub(in crate::transport) fn held(&self) -> usize {
        self.mux.held()
    }

    pub(in crate::transport) fn set_room(&mut self, bytes: usize) {
        self.mux.set_room(bytes);
    }

    pub(in crate::transport) fn finish(&mut self, stream: StreamId) -> Result<(), CommandError> {
        self.mux.finish(stream)
    }

    pub(in crate::transport) fn reset(
        &mut self,
        stream: StreamId,
        code: u32,
    ) -> Result<(), CommandError> {
        self.mux.reset(stream, code)
    }

    pub(in crate::transport) fn stop(
        &mut self,
        stream: StreamId,
        code: u32,
    ) -> Result<(), CommandError> {
        self.mux.stop(stream, code)
    }

    pub(in crate::transport) fn set_priority(
        &mut self,
        stream: StreamId,
        priority: i32,
    ) -> Result<(), CommandError> {
        self.mux.set_priority(stream, priority)
    }

    pub(in crate::transport) fn send_datagram(
        &mut self,
        payload: &[u8],
    ) -> Result<(), CommandError> {
        self.mux.send_datagram(payload)
    }

    pub(in crate::transport) fn drain(&mut self) {
        self.mux.drain();
    }

    pub(in crate::transport) fn close(&mut self, code: u32, reason: &str, by: Closer) {
        self.mux.close(code, reason, by);
    }

    pub(in crate::transport) fn is_closed(&self) -> bool {
        self.mux.is_closed()
    }

    pub(in crate::transport) fn is_told(&self) -> bool {
        self.mux.is_told()
    }

    pub(in crate::transport) fn counts(&self) -> Info {
        self.mux.info()
    }

    pub(in crate::transport) fn info(&self) -> Info {
        let mut info = self.counts();
        info.rtt = self.place.common.rtt.get();
        info
    }

    pub(in crate::transport) fn export_keying_material(
        &self,
        label: &[u8],
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), CommandError> {
        if self.mux.is_closed() {
            return Err(CommandError::Closed);
        }
        let context = exporter::context(self.id.into(), label, context)?;
        let tls = self.place.common.exporter.upgrade();
        let tls = tls.ok_or(CommandError::Closed)?;
        tls.export(exporter::LABEL, &context, out)
            .then_some(())
            .ok_or(CommandError::TooLarge)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The phase, once it has changed; `None` when the connection is gone, which the CONNECT stream tells better.
async fn changed(mut phase: watch::Receiver<Phase>) -> Option<watch::Receiver<Phase>> {
    phase.changed().await.ok()?;
    Some(phase)
}

/// How much may be sent. `None` says that the stream is over.
fn poll_room(send: &mut SendStream<Chunks>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    send.reserve_capacity(ROOM);
    loop {
        match send.capacity() {
            0 => match send.poll_capacity(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
            },
            room => return Poll::Ready(Some(room)),
        }
    }
}
