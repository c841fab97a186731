//! What the peer of a connection asks for, and the decision on it: a session, or an ordinary answer.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderValue;
use wharf_proto::{
    code::{AppCodes, HttpCode},
    id::SessionId,
    session as proto,
};

use super::{
    allowance::allow,
    body::Body,
    connect::ConnectStream,
    hold::Hold,
    session::{Session, Terms},
    table::{Share, Table},
    tap::{Bidi, RequestNote},
};
use crate::transport::{Request, Response, SessionLimits, head, phase::Shared};

/// How a peer of draft 02 says so.
pub(super) const DRAFT_02: &str = "sec-webtransport-http3-draft02";
/// How it is answered.
const DRAFT: &str = "sec-webtransport-http3-draft";

type RequestStream = h3::server::RequestStream<Bidi, Bytes>;

/// A request's stream and its place in the session table. Dropping it undecided rejects the request.
pub(super) struct Asked {
    table: Arc<Table>,
    id: SessionId,
    /// `None` before the request is read, and after it was decided.
    stream: Option<RequestStream>,
    /// Whether a session came of it, which keeps its place.
    begun: bool,
}

impl Asked {
    pub(super) fn new(table: Arc<Table>, id: SessionId) -> Self {
        Self {
            table,
            id,
            stream: None,
            begun: false,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// The head has been read off the stream.
    pub(super) fn read(&mut self, stream: RequestStream) {
        self.stream = Some(stream);
    }

    pub(super) async fn refuse(&mut self, response: &Response) {
        match head::refusal(response) {
            Ok(head) => self.respond(head.map(|()| Bytes::new())).await,
            Err(error) => {
                tracing::debug!(%error, "no such refusal can be sent");
                self.abort(HttpCode::H3_INTERNAL_ERROR);
            }
        }
    }

    async fn respond(&mut self, response: http::Response<Bytes>) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let (head, body) = response.into_parts();
        let head = http::Response::from_parts(head, ());
        let answer = async {
            stream.send_response(head).await?;
            if !body.is_empty() {
                stream.send_data(body).await?;
            }
            stream.finish().await
        };
        // A peer that is gone needs no answer.
        _ = answer.await;
        stream.stop_sending(h3::error::Code::H3_NO_ERROR);
    }

    pub(super) fn abort(&mut self, code: HttpCode) {
        if let Some(mut stream) = self.stream.take() {
            let code = h3::error::Code::from(code.into_inner());
            stream.stop_stream(code);
            stream.stop_sending(code);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.begun {
            self.abort(HttpCode::H3_REQUEST_REJECTED);
            self.table.end(self.id);
        }
    }
}

/// A session that is asked for over HTTP/3, and waits for a decision.
pub struct Incoming {
    pub(super) request: Request,
    pub(super) note: RequestNote,
    pub(super) flow_control: Option<proto::Limits>,
    pub(super) codes: AppCodes,
    pub(super) conn: quinn::Connection,
    pub(super) hold: Hold,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: SessionLimits,
    pub(super) asked: Asked,
}

impl Incoming {
    pub(in crate::transport) fn request(&self) -> &Request {
        &self.request
    }

    pub(in crate::transport) fn limit(&mut self, limits: SessionLimits) {
        self.limits = limits.beside(&self.shared.limits.session);
    }

    pub(in crate::transport) async fn accept(
        mut self,
        response: &Response,
    ) -> anyhow::Result<Session> {
        let connect = &self.request.connect;
        let mut head = head::acceptance(response, connect)?;
        if connect.fields.iter().any(|(name, _)| name == DRAFT_02) {
            let value = HeaderValue::from_static("draft02");
            head.headers_mut().insert(DRAFT, value);
        }
        anyhow::ensure!(self.shared.is_open(), "the host is draining");
        let mut stream = self
            .asked
            .stream
            .take()
            .context("the request was decided before")?;
        stream.send_response(head).await?;
        self.asked.begun = true;
        let terms = Terms {
            limits: self.limits,
            shared: self.shared.limits.clone(),
            codes: self.codes,
            peer: self.flow_control,
        };
        let mut session = Session::new(
            self.asked.id,
            self.conn.clone(),
            terms,
            ConnectStream::new(Body::Server(stream), self.note),
            self.asked.table.clone(),
        );
        session.hold = self.hold;
        let (conn, table) = (&self.conn, &self.asked.table);
        allow(conn, table, &self.shared.limits);
        let share = table.share(Share::default());
        table
            .window
            .share(share, |window| conn.set_receive_window(window));
        Ok(session)
    }

    pub(in crate::transport) async fn refuse(mut self, response: &Response) {
        self.asked.refuse(response).await;
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// An ordinary request over HTTP/3, and the response that is due to it.
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
        let stream = self.asked.stream.as_mut();
        let stream = stream.context("the request was decided before")?;
        let mut body = BytesMut::new();
        while let Some(data) = stream.recv_data().await? {
            anyhow::ensure!(
                data.remaining() <= bytes_max - body.len(),
                "the body is longer than {bytes_max} bytes"
            );
            body.put(data);
        }
        Ok(body.freeze())
    }

    pub(in crate::transport) async fn respond(mut self, response: http::Response<Bytes>) {
        self.asked.respond(response).await;
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
