//! What the peer of an HTTP/2 connection asks for, and the decision on it: a session, or an ordinary answer.

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use wharf_proto::{
    id::Side,
    mux::{Chunks, Grants},
};

use super::{connection::Place, session::Session};
use crate::transport::{Quirks, Request, Response, SessionLimits, head, phase::Shared};

/// A request's stream, and its place among those of its connection. Dropping it undecided rejects the request.
pub(super) struct Asked {
    pub(super) place: Place,
    respond: Respond,
    body: RecvStream,
}

impl Asked {
    pub(super) fn new(respond: SendResponse<Chunks>, body: RecvStream, place: Place) -> Self {
        Self {
            place,
            respond: Respond(Some(respond)),
            body,
        }
    }

    pub(super) fn refuse(&mut self, response: &Response) {
        match head::refusal(response) {
            // A peer that is gone needs no answer.
            Ok(head) => _ = self.respond.send(head, true),
            Err(error) => {
                tracing::debug!(%error, "no such refusal can be sent");
                self.respond.reject(Reason::INTERNAL_ERROR);
            }
        }
    }
}

/// The decision on a request, which is rejected where none is made.
struct Respond(Option<SendResponse<Chunks>>);

impl Respond {
    fn send(&mut self, head: http::Response<()>, end: bool) -> anyhow::Result<SendStream<Chunks>> {
        let mut respond = self.0.take().context("the request was decided before")?;
        Ok(respond.send_response(head, end)?)
    }

    fn reject(&mut self, reason: Reason) {
        if let Some(mut respond) = self.0.take() {
            respond.send_reset(reason);
        }
    }
}

impl Drop for Respond {
    fn drop(&mut self) {
        self.reject(Reason::REFUSED_STREAM);
    }
}

/// A session that is asked for over HTTP/2, and waits for a decision.
pub struct Incoming {
    request: Request,
    grants: Grants,
    quirks: Quirks,
    limits: SessionLimits,
    shared: Arc<Shared>,
    asked: Asked,
}

impl Incoming {
    pub(super) fn new(request: Request, grants: Grants, shared: Arc<Shared>, asked: Asked) -> Self {
        Self {
            request,
            grants,
            quirks: Quirks::default(),
            limits: shared.limits.session.clone(),
            shared,
            asked,
        }
    }

    pub(in crate::transport) fn request(&self) -> &Request {
        &self.request
    }

    pub(in crate::transport) fn bear_with(&mut self, quirks: Quirks) {
        self.quirks = quirks;
    }

    pub(in crate::transport) fn limit(&mut self, limits: SessionLimits) {
        self.limits = limits.beside(&self.shared.limits.session);
    }

    pub(in crate::transport) fn accept(mut self, response: &Response) -> anyhow::Result<Session> {
        let head = head::acceptance(response, &self.request.connect)?;
        anyhow::ensure!(self.shared.is_open(), "the host is draining");
        let send = self.asked.respond.send(head, false)?;
        let Asked {
            mut place, body, ..
        } = self.asked;
        let (limits, peer, quirks) = (&self.limits, self.grants, self.quirks);
        place.limit(limits);
        Ok(Session::new(
            Side::Server,
            limits,
            peer,
            quirks,
            send,
            body,
            place,
        ))
    }

    pub(in crate::transport) fn refuse(mut self, response: &Response) {
        self.asked.refuse(response);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// An ordinary request over HTTP/2, and the response that is due to it.
pub struct Exchange {
    request: http::Request<()>,
    peer: SocketAddr,
    asked: Asked,
}

impl Exchange {
    pub(super) fn new(request: http::Request<()>, peer: SocketAddr, asked: Asked) -> Self {
        Self {
            request,
            peer,
            asked,
        }
    }

    pub(in crate::transport) fn request(&self) -> &http::Request<()> {
        &self.request
    }

    pub(in crate::transport) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(in crate::transport) async fn body(&mut self, bytes_max: usize) -> anyhow::Result<Bytes> {
        let stream = &mut self.asked.body;
        let mut body = BytesMut::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            anyhow::ensure!(
                data.len() <= bytes_max - body.len(),
                "the body is longer than {bytes_max} bytes"
            );
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        Ok(body.freeze())
    }

    pub(in crate::transport) async fn respond(mut self, response: http::Response<Bytes>) {
        let (head, mut body) = response.into_parts();
        let head = http::Response::from_parts(head, ());
        // A peer that is gone needs no answer.
        let Ok(mut stream) = self.asked.respond.send(head, body.is_empty()) else {
            return;
        };
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                return;
            };
            let part = body.split_to(room.min(body.len()));
            if stream
                .send_data(Chunks::from(part), body.is_empty())
                .is_err()
            {
                return;
            }
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("request", &self.request)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
