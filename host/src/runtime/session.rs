//! Serves one session with one fresh instance.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use wasmtime::{
    Store, UpdateDeadline,
    component::{Instance, Resource, ResourceAny, ResourceTable},
};
use wasmtime_wasi::WasiCtxBuilder;
use wharf_proto::id::{Dir, StreamId};

use super::{
    bindings::{
        SessionHandler,
        exports::wharf::webtransport::callbacks,
        wharf::webtransport::types::{self, StreamKind},
    },
    call::{self, OutOfTime},
    component::{Component, Counted},
    host::{Handle, State},
    limits::Budget,
    output::Output,
    timers::Timers,
};
use crate::{
    close::{self, Close},
    transport::{Closed, Closer, Event, Request, Response, Role, Session},
};

/// What a hostcall may copy out of a guest beyond what the guest's memory may hold: lists of fields, for instance.
const HOSTCALL_SLACK: usize = 1 << 20;
/// The most random bytes that a guest may ask for at once.
const RANDOM_MAX: u64 = 64 << 10;

/// Names a session in the log.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its number, unique while the host runs.
    pub session: u64,
    /// Whose handler it has.
    pub tenant: Arc<str>,
    /// The route that chose the handler.
    pub route: Arc<str>,
    /// The request's path.
    pub path: String,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Its session is over.
    Returned,
    /// It trapped.
    Trapped,
    /// A callback spent more CPU than it may.
    OutOfTime,
    /// It trapped after it was denied memory.
    OutOfMemory,
    /// It answered something that makes no sense; the log says what.
    Failed,
}

impl Exit {
    /// What the peer is told.
    fn close(self) -> Close {
        match self {
            Self::Returned | Self::Trapped | Self::Failed => close::TRAPPED,
            Self::OutOfTime => close::OUT_OF_TIME,
            Self::OutOfMemory => close::OUT_OF_MEMORY,
        }
    }
}

/// An instance in a store of its own. Dropping it frees everything it had.
pub struct Guest {
    store: Store<State>,
    instance: Instance,
    component: Component,
    label: Arc<Label>,
    _counted: Counted,
}

impl Component {
    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// When the component's own start traps or takes too long, or the pool has no room. The log says why.
    pub async fn instantiate(&self, label: Label) -> Result<Guest, Exit> {
        let label = Arc::new(label);
        let mut store = store(self, &label);
        let pre = self.loaded.pre.instance_pre();
        let deadline = self.runtime.limits().callback_deadline;
        let counted = self.runtime.count();
        rearm(&mut store);
        let result = call::within(deadline, pre.instantiate_async(&mut store)).await;
        let instance = settle(&store, &label, result)?;
        Ok(Guest {
            store,
            instance,
            component: self.clone(),
            label,
            _counted: counted,
        })
    }
}

fn store(component: &Component, label: &Arc<Label>) -> Store<State> {
    let limits = component.runtime.limits();
    let wasi = WasiCtxBuilder::new()
        .stdout(Output::new("stdout", label, limits))
        .stderr(Output::new("stderr", label, limits))
        .max_random_size(RANDOM_MAX)
        .build();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let state = State {
        wasi,
        table,
        budget: Budget::new(limits.memory),
        session: None,
        number: label.session,
        timers: Timers::default(),
        timers_max: limits.timers,
    };
    let mut store = Store::new(component.runtime.engine(), state);
    store.limiter(|state| &mut state.budget);
    // A guest may send all of its memory at once, and no more.
    store.set_hostcall_fuel(limits.memory.saturating_add(HOSTCALL_SLACK));
    store.set_max_component_handles(limits.handles as usize);
    store.epoch_deadline_callback(|_| {
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
    store
}

/// Gives the next call a whole tick before it yields: the deadline is absolute, and that of an idle guest is over.
fn rearm(store: &mut Store<State>) {
    store.set_epoch_deadline(2);
}

/// Says how a call ended, and tells the log where it ended badly.
fn settle<T>(
    store: &Store<State>,
    label: &Label,
    result: Result<wasmtime::Result<T>, OutOfTime>,
) -> Result<T, Exit> {
    let (exit, why) = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(trap)) if store.data().budget.denied() => (Exit::OutOfMemory, format!("{trap:#}")),
        Ok(Err(trap)) => (Exit::Trapped, format!("{trap:#}")),
        Err(OutOfTime) => (
            Exit::OutOfTime,
            "a callback spent its CPU deadline".to_owned(),
        ),
    };
    let Label {
        session,
        tenant,
        route,
        path,
    } = label;
    tracing::info!(
        session,
        tenant = &**tenant,
        route = &**route,
        path,
        ?exit,
        "handler ended: {why}"
    );
    Err(exit)
}

impl Guest {
    /// Asks the component whether the session begins: `Ok` with the response that begins it, or `Err` with the one that
    /// refuses it.
    ///
    /// # Errors
    ///
    /// When it exports no `admit`, traps, takes too long, or answers what cannot be sent.
    pub async fn admit(&mut self, request: &Request) -> Result<Result<Response, Response>, Exit> {
        type Answer = (Result<types::Acceptance, types::Rejection>,);
        let Some(admit) = &self.component.loaded.admit else {
            return Err(Exit::Failed);
        };
        let typed = self
            .instance
            .get_typed_func::<(&types::Request,), Answer>(&mut self.store, admit);
        let function = settle(&self.store, &self.label, Ok(typed))?;
        let request = wit_request(request);
        rearm(&mut self.store);
        let deadline = self.component.runtime.limits().callback_deadline;
        let result =
            call::within(deadline, function.call_async(&mut self.store, (&request,))).await;
        let (answer,) = settle(&self.store, &self.label, result)?;
        let answer = match answer {
            Ok(acceptance) => acceptable(acceptance, &request).map(Ok),
            Err(rejection) => rejectable(rejection).map(Err),
        };
        answer.map_err(|why| {
            let Label { session, route, .. } = &*self.label;
            tracing::info!(
                session,
                route = &**route,
                "the answer of admit cannot be sent: {why}"
            );
            Exit::Failed
        })
    }

    /// Serves the session to its end, and tells the peer of that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the session: the peer sees its CONNECT stream reset, the guest sees nothing.
    pub async fn run(mut self, session: Session, request: &Request) -> Exit {
        self.store.data_mut().session = Some(session);
        let served = self.serve(request).await;
        let mut session = self.store.data_mut().session.take();
        drop(self);
        let Some(mut session) = session.take() else {
            return Exit::Failed; // `serve` leaves it where it was
        };
        if let Err(exit) = served {
            let (code, reason) = exit.close();
            session.close(code, reason, Closer::Host);
            // It trapped in its last callback where there is nothing more to tell.
            while !session.is_told() {
                poll_fn(|cx| session.poll_event(cx)).await;
            }
        }
        session.finish_closing().await;
        served.err().unwrap_or(Exit::Returned)
    }

    async fn serve(&mut self, request: &Request) -> Result<(), Exit> {
        let Self {
            store,
            instance,
            component,
            label,
            ..
        } = self;
        let deadline = component.runtime.limits().callback_deadline;
        let exports = SessionHandler::new(&mut *store, instance);
        let exports = settle(store, label, Ok(exports))?;
        let handle = store
            .data_mut()
            .table
            .push(Handle)
            .map_err(wasmtime::Error::from);
        let handle: Resource<Handle> = settle(store, label, Ok(handle))?;
        let handler = exports.wharf_webtransport_callbacks().handler();
        let request = wit_request(request);
        rearm(store);
        let result = call::within(
            deadline,
            handler.call_constructor(&mut *store, handle, &request),
        )
        .await;
        let this = settle(store, label, result)?;
        drop(request);
        loop {
            let next = poll_fn(|cx| store.data_mut().poll_next(cx)).await;
            let over = matches!(next, Next::Event(Event::Closed(_)));
            rearm(store);
            let result = call::within(deadline, dispatch(&handler, store, this, next)).await;
            settle(store, label, result)?;
            if over {
                return Ok(());
            }
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// What a handler is called for.
enum Next {
    Event(Event),
    Timer(u64),
}

impl State {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(session) = &mut self.session
            && let Poll::Ready(event) = session.poll_event(cx)
        {
            return Poll::Ready(Next::Event(event));
        }
        self.timers.poll_due(cx).map(Next::Timer)
    }
}

/// Calls the callback that an event is for.
async fn dispatch(
    handler: &callbacks::GuestHandler<'_>,
    store: &mut Store<State>,
    this: ResourceAny,
    next: Next,
) -> wasmtime::Result<()> {
    let event = match next {
        Next::Event(event) => event,
        Next::Timer(timer) => return handler.call_on_timer(store, this, timer).await,
    };
    match event {
        Event::Opened(id) => {
            handler
                .call_on_stream_opened(store, this, id.into(), kind(id))
                .await
        }
        Event::Data { stream, data, fin } => {
            handler
                .call_on_stream_data(store, this, stream.into(), &data, fin)
                .await
        }
        Event::Reset(id, code) => {
            handler
                .call_on_stream_reset(store, this, id.into(), code)
                .await
        }
        Event::Stopped(id, code) => {
            handler
                .call_on_stop_sending(store, this, id.into(), code)
                .await
        }
        Event::Writable(id) => {
            handler
                .call_on_stream_writable(store, this, id.into())
                .await
        }
        Event::StreamClosed(id) => handler.call_on_stream_closed(store, this, id.into()).await,
        Event::Datagram(data) => handler.call_on_datagram(store, this, &data).await,
        Event::Draining => handler.call_on_drain(store, this).await,
        Event::Closed(closed) => {
            handler
                .call_on_closed(store, this, &close_info(closed))
                .await
        }
        _ => Ok(()), // one that this world has no callback for
    }
}

fn kind(id: StreamId) -> StreamKind {
    match id.dir() {
        Dir::Bi => StreamKind::Bidi,
        Dir::Uni => StreamKind::Uni,
    }
}

fn close_info(closed: Closed) -> types::CloseInfo {
    types::CloseInfo {
        code: closed.code,
        reason: closed.reason,
        by: match closed.by {
            Closer::Local => types::Closer::Local,
            Closer::Peer => types::Closer::Peer,
            Closer::Host => types::Closer::Host,
        },
        clean: closed.clean,
    }
}

fn wit_request(request: &Request) -> types::Request {
    let connect = &request.connect;
    let fields = connect.fields.iter();
    types::Request {
        scheme: connect.scheme.clone(),
        authority: connect.authority.clone(),
        path: connect.path.clone(),
        token: connect.token.as_str().to_owned(),
        origin: connect.origin.clone(),
        fields: fields
            .map(|(name, value)| (name.clone(), value.to_vec()))
            .collect(),
        offered_protocols: connect.offered_protocols.clone(),
        peer: request.peer.to_string(),
        http: request.http.into(),
        role: match request.role {
            Role::Server => types::Role::Server,
            Role::Client => types::Role::Client,
        },
    }
}

/// The response of an acceptance, or why it cannot be sent.
fn acceptable(acceptance: types::Acceptance, request: &types::Request) -> Result<Response, String> {
    if !(200..300).contains(&acceptance.status) {
        return Err(format!(
            "an acceptance has a status from 200 to 299, not {}",
            acceptance.status
        ));
    }
    if let Some(protocol) = &acceptance.protocol
        && !request.offered_protocols.contains(protocol)
    {
        return Err(format!("the protocol {protocol:?} was not offered"));
    }
    Ok(Response {
        status: acceptance.status,
        fields: sendable(acceptance.fields)?,
        protocol: acceptance.protocol,
    })
}

/// The response of a rejection, or why it cannot be sent.
fn rejectable(rejection: types::Rejection) -> Result<Response, String> {
    if !(300..600).contains(&rejection.status) {
        return Err(format!(
            "a rejection has a status from 300 to 599, not {}",
            rejection.status
        ));
    }
    Ok(Response {
        status: rejection.status,
        fields: sendable(rejection.fields)?,
        protocol: None,
    })
}

/// Fields that HTTP can send: names and values are well-formed, and none is the connection's own affair.
fn sendable(fields: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Bytes)>, String> {
    const OWN: [&str; 7] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "wt-protocol",
    ];
    let check = |(name, value): (String, Vec<u8>)| {
        let known = http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
        if !known || OWN.contains(&name.as_str()) || http::HeaderValue::from_bytes(&value).is_err()
        {
            return Err(format!("the field {name:?} cannot be sent"));
        }
        Ok((name, Bytes::from(value)))
    };
    fields.into_iter().map(check).collect()
}
