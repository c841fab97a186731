//! An instance of a component in a store of its own, and the calls into it.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use wasmtime::{
    Store, UpdateDeadline,
    component::{Resource, ResourceAny, ResourceTable, TypedFunc},
};

use super::{
    Exit, Label, Scope,
    bindings::{
        SessionHandler,
        exports::wharf::webtransport::callbacks,
        wharf::webtransport::types::{Acceptance, Rejection, Request as WitRequest},
    },
    component::{Component, Counted},
    cpu::{Meter, Stopped, Yield},
    host::{Handle, State},
    members::{Batch, Members},
    memory::Memory,
    output::Output,
    wasi::Wasi,
    wit,
};
use crate::{
    close,
    metrics::{Cause, Closing, Opener, Stats},
    transport::{Closed, Closer, Event, Request, Response, Session},
};

/// What a hostcall may copy out of a guest beyond what the guest's memory may hold: lists of fields, for instance.
const HOSTCALL_SLACK: usize = 1 << 20;

/// An instance. Dropping it frees everything it had.
pub(super) struct Instance {
    store: Store<State>,
    instance: wasmtime::component::Instance,
    exports: SessionHandler,
    /// What takes datagrams by the batch, where the component has it.
    on_datagrams: Option<OnDatagrams>,
    component: Component,
    yielded: Yield,
    outputs: [Output; 2],
    _counted: Counted,
}

/// Takes the handler, and a [`Batch`].
type OnDatagrams = TypedFunc<(ResourceAny, Arc<Vec<u8>>, Arc<Vec<u32>>), ()>;

/// What a handler is called for.
pub(super) enum Next {
    /// No datagram where the component takes those by the batch.
    Event(Event),
    Datagrams(Batch),
    Timer(u64),
}

impl Instance {
    /// Makes an instance, and the meter of its first session. Lines that it writes are told as that label's.
    pub(super) async fn start(
        component: &Component,
        label: &Arc<Label>,
    ) -> Result<(Self, Meter), Exit> {
        let limits = &component.terms.limits;
        let outputs = ["stdout", "stderr"].map(|name| Output::new(name, label, limits));
        let yielded = Yield::default();
        let mut meter = component.meter(&yielded);
        let mut store = store(component, &outputs, &yielded);
        let counted = component.runtime.count();
        let pre = &component.loaded.pre;
        rearm(&mut store);
        let started = async {
            let instance = pre.instantiate_async(&mut store).await?;
            let exports = component.loaded.exports.load(&mut store, &instance)?;
            let on_datagrams = component.loaded.on_datagrams.as_ref();
            let on_datagrams = on_datagrams
                .map(|export| instance.get_typed_func(&mut store, export))
                .transpose()?;
            Ok((instance, exports, on_datagrams))
        };
        let result = metered(&mut meter, &label.stats, pin!(started)).await;
        let (instance, exports, on_datagrams) = settle(&store, label, result)?;
        let instance = Self {
            store,
            instance,
            exports,
            on_datagrams,
            component: component.clone(),
            yielded,
            outputs,
            _counted: counted,
        };
        Ok((instance, meter))
    }

    /// A meter for another session of this instance.
    pub(super) fn meter(&self) -> Meter {
        self.component.meter(&self.yielded)
    }

    /// Has the lines that the guest writes told as that label's.
    pub(super) fn speak_for(&self, label: &Arc<Label>) {
        for output in &self.outputs {
            output.speak_for(label);
        }
    }

    /// Asks whether a session begins: `Ok` with the response that begins it, or `Err` with the one that refuses it.
    pub(super) async fn admit(
        &mut self,
        meter: &mut Meter,
        label: &Label,
        request: &Request,
    ) -> Result<Result<Response, Response>, Exit> {
        let Some(admit) = &self.component.loaded.admit else {
            return Err(Exit::Failed);
        };
        let typed = self
            .instance
            .get_typed_func::<(&WitRequest,), (Result<Acceptance, Rejection>,)>(
                &mut self.store,
                admit,
            );
        let function = settle(&self.store, label, Ok(typed))?;
        let request = wit::asked(request);
        self.store.data_mut().called = None;
        rearm(&mut self.store);
        let call = function.call_async(&mut self.store, (&request,));
        let result = metered(meter, &label.stats, pin!(call)).await;
        let (answer,) = settle(&self.store, label, result)?;
        let answer = match answer {
            Ok(acceptance) => wit::acceptable(acceptance, &request).map(Ok),
            Err(rejection) => wit::rejectable(rejection).map(Err),
        };
        answer.map_err(|why| {
            let Label { session, route, .. } = label;
            tracing::info!(
                session,
                route = &**route,
                "the answer of admit cannot be sent: {why}"
            );
            Exit::Failed
        })
    }

    /// Takes a session in, and returns its number.
    pub(super) fn join(&mut self, session: Session, label: Arc<Label>) -> u32 {
        self.store.data_mut().members.insert(session, label)
    }

    /// Ends a session.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(member) = self.store.data_mut().members.get_mut(number) {
            let (code, reason) = close::SHUTTING_DOWN;
            member.session.close(code, reason, Closer::Host);
        }
    }

    /// Lets a session go.
    pub(super) fn leave(&mut self, number: u32) -> Option<Session> {
        let state = self.store.data_mut();
        state.publish(number);
        let member = state.members.remove(number)?;
        state.release(member.held);
        Some(member.session)
    }

    /// Makes the session's handler.
    pub(super) async fn construct(
        &mut self,
        meter: &mut Meter,
        number: u32,
        request: &Request,
    ) -> Result<(), Exit> {
        let handler = self.exports.wharf_webtransport_callbacks().handler();
        let request = wit::asked(request);
        let handle = Resource::<Handle>::new_own(number);
        let Some(member) = self.store.data_mut().members.get_mut(number) else {
            return Ok(());
        };
        let label = member.label.clone();
        self.store.data_mut().called = Some(number);
        rearm(&mut self.store);
        let call = handler.call_constructor(&mut self.store, handle, &request);
        let result = metered(meter, &label.stats, pin!(call)).await;
        let made = self.settle(number, result)?;
        if let Some(member) = self.store.data_mut().members.get_mut(number) {
            member.handler = Some(made);
        }
        Ok(())
    }

    /// What a session's handler is to be called for.
    pub(super) fn poll_next(&mut self, number: u32, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(member) = self.store.data_mut().members.get_mut(number) else {
            return Poll::Pending;
        };
        member.waker.clone_from(cx.waker());
        match member.poll_event(cx) {
            Poll::Ready(Event::Datagram(first)) if self.on_datagrams.is_some() => {
                return Poll::Ready(Next::Datagrams(member.batch(&first, cx)));
            }
            Poll::Ready(event) => return Poll::Ready(Next::Event(event)),
            Poll::Pending => {}
        }
        let due = member.timers.poll_due(cx).map(Next::Timer);
        if due.is_pending() {
            let state = self.store.data_mut();
            state.weigh(number);
            state.publish(number);
        }
        due
    }

    /// Calls the session's handler.
    pub(super) async fn call(
        &mut self,
        meter: &mut Meter,
        number: u32,
        next: Next,
    ) -> Result<(), Exit> {
        let state = self.store.data_mut();
        state.weigh(number);
        let Some(member) = state.members.get_mut(number) else {
            return Ok(());
        };
        let Some(this) = member.handler else {
            return Ok(());
        };
        let label = member.label.clone();
        count(&label.stats, &next);
        state.called = Some(number);
        let handler = self.exports.wharf_webtransport_callbacks().handler();
        rearm(&mut self.store);
        let result = {
            let call = pin!(dispatch(
                &handler,
                self.on_datagrams,
                &mut self.store,
                this,
                next
            ));
            metered(meter, &label.stats, call).await
        };
        self.settle(number, result)
    }

    /// Drops the session's handler, so that an instance that serves others keeps nothing of it.
    pub(super) async fn release(&mut self, meter: &mut Meter, number: u32) -> Result<(), Exit> {
        let state = self.store.data_mut();
        let Some(member) = state.members.get_mut(number) else {
            return Ok(());
        };
        let Some(this) = member.handler.take() else {
            return Ok(());
        };
        let label = member.label.clone();
        state.called = Some(number);
        rearm(&mut self.store);
        let drop = this.resource_drop_async(&mut self.store);
        let result = metered(meter, &label.stats, pin!(drop)).await;
        self.settle(number, result)
    }

    fn settle<T>(
        &mut self,
        number: u32,
        result: Result<wasmtime::Result<T>, Stopped>,
    ) -> Result<T, Exit> {
        if let Ok(Ok(value)) = result {
            return Ok(value);
        }
        let member = self.store.data_mut().members.get_mut(number);
        match member.map(|member| member.label.clone()) {
            Some(label) => settle(&self.store, &label, result),
            None => Err(Exit::Failed),
        }
    }
}

fn store(component: &Component, outputs: &[Output; 2], yielded: &Yield) -> Store<State> {
    let terms = &component.terms;
    let limits = &terms.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let state = State {
        wasi: Wasi::new(terms, outputs),
        table,
        memory: Memory::new(limits.memory, terms.account.clone()),
        members: Members::default(),
        called: None,
        held: 0,
        timers_max: limits.timers,
        metrics: component.runtime.metrics().clone(),
    };
    let mut store = Store::new(component.runtime.engine(), state);
    store.limiter(|state| state);
    // A guest may send all of its memory at once, and no more.
    store.set_hostcall_fuel(limits.memory.saturating_add(HOSTCALL_SLACK));
    let of_sessions = match terms.scope {
        Scope::Session => 0,
        // Each has the guest's handle of it, and the host's of its handler, beside what the guest makes.
        Scope::Shared => 2 * component.runtime.sessions() as usize,
    };
    let handles = (limits.handles as usize).saturating_add(of_sessions);
    store.set_max_component_handles(handles);
    let yielded = yielded.clone();
    store.epoch_deadline_callback(move |_| {
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(yielded.once())))
    });
    store
}

/// Gives the next call a whole tick before it yields: the deadline is absolute, and that of an idle guest is over.
fn rearm(store: &mut Store<State>) {
    store.set_epoch_deadline(2);
}

/// Runs a call, and counts what it spent. The call stays where it is made: it is large, and to move it costs as much as a
/// small one takes.
async fn metered<T>(
    meter: &mut Meter,
    stats: &Stats,
    call: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Stopped> {
    let before = meter.spent();
    let result = meter.run(call).await;
    stats.called(meter.spent().saturating_sub(before));
    result
}

/// Counts what a handler is called for.
fn count(stats: &Stats, next: &Next) {
    match next {
        Next::Event(Event::Opened(id)) => stats.opened(id.dir(), Opener::Peer),
        Next::Event(Event::Closed(closed)) => stats.closed(closing(closed)),
        Next::Event(_) | Next::Datagrams(_) | Next::Timer(_) => {}
    }
}

fn closing(closed: &Closed) -> Closing {
    let cause = match (closed.by, closed.clean) {
        (Closer::Local, _) => Cause::Handler,
        (Closer::Peer, true) => Cause::Peer,
        (Closer::Peer, false) => Cause::Lost,
        (Closer::Host, _) => Cause::Host,
    };
    Closing {
        cause,
        code: closed.code,
    }
}

/// Says how a call ended, and tells the log where it ended badly.
fn settle<T>(
    store: &Store<State>,
    label: &Label,
    result: Result<wasmtime::Result<T>, Stopped>,
) -> Result<T, Exit> {
    let (exit, why) = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(trap)) if store.data().memory.denied() => (Exit::OutOfMemory, format!("{trap:#}")),
        Ok(Err(trap)) => (Exit::Trapped, format!("{trap:#}")),
        Err(Stopped::Deadline) => (
            Exit::OutOfTime,
            "a callback spent its CPU deadline".to_owned(),
        ),
        Err(Stopped::Waited) => (
            Exit::OutOfTime,
            "a callback waited longer than it may".to_owned(),
        ),
    };
    let Label {
        session,
        tenant,
        route,
        path,
        ..
    } = label;
    if let Some(cause) = exit.cause() {
        store.data().metrics.trapped(tenant, route, cause);
    }
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

/// Calls the callback that an event is for.
async fn dispatch(
    handler: &callbacks::GuestHandler<'_>,
    on_datagrams: Option<OnDatagrams>,
    store: &mut Store<State>,
    this: ResourceAny,
    next: Next,
) -> wasmtime::Result<()> {
    let event = match next {
        Next::Event(event) => event,
        Next::Datagrams(batch) => {
            let Some(on_datagrams) = on_datagrams else {
                return Ok(()); // they are gathered only where there is one
            };
            let lent = (this, batch.data.clone(), batch.sizes.clone());
            let called = on_datagrams.call_async(store, lent).await;
            batch.spare_again();
            return called;
        }
        Next::Timer(timer) => return handler.call_on_timer(store, this, timer).await,
    };
    match event {
        Event::Opened(id) => {
            handler
                .call_on_stream_opened(store, this, id.into(), wit::kind(id))
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
                .call_on_closed(store, this, &wit::close_info(closed))
                .await
        }
        _ => Ok(()), // one that this world has no callback for
    }
}
