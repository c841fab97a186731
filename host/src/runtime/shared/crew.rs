//! The task of a shared instance: whose turn it is among its sessions.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use slab::Slab;
use tokio::{
    sync::{mpsc, oneshot},
    time::Sleep,
};

use crate::{
    ready::{Rounds, Token},
    runtime::{
        Component, Exit, Label,
        cpu::Meter,
        instance::{Instance, Next},
    },
    transport::{Event, Request, Response, Session},
};

/// How a session went, which comes back with it.
type Over = (Box<Session>, Result<(), Exit>);

/// What is asked of the instance.
pub(super) enum Order {
    Admit {
        label: Arc<Label>,
        request: Box<Request>,
        reply: oneshot::Sender<Result<Result<Response, Response>, Exit>>,
    },
    Begin {
        label: Arc<Label>,
        session: Box<Session>,
        request: Box<Request>,
        reply: oneshot::Sender<Over>,
    },
}

impl Order {
    /// Answers that the instance has ended.
    fn decline(self, exit: Exit) {
        match self {
            Self::Admit { reply, .. } => _ = reply.send(Err(exit)),
            Self::Begin { session, reply, .. } => _ = reply.send((session, Err(exit))),
        }
    }
}

/// Runs an instance until it has nothing to do and never will, or ends by a trap; then its sessions go back.
pub(super) async fn run(
    component: &Component,
    label: &Arc<Label>,
    mut orders: mpsc::Receiver<Order>,
) -> Exit {
    let exit = match Instance::start(component, label).await {
        Ok((instance, meter)) => {
            let mut crew = Crew::new(instance, meter);
            let exit = match crew.serve(&mut orders).await {
                Ok(()) => return Exit::Returned,
                Err(exit) => exit,
            };
            crew.dismiss(exit);
            exit
        }
        Err(exit) => exit,
    };
    orders.close();
    while let Some(order) = orders.recv().await {
        order.decline(exit);
    }
    exit
}

/// An instance and its sessions.
struct Crew {
    instance: Instance,
    /// For what belongs to no session.
    meter: Meter,
    rounds: Rounds,
    members: Slab<Member>,
    order_first: bool,
}

struct Member {
    number: u32,
    label: Arc<Label>,
    meter: Meter,
    token: Arc<Token>,
    waker: Waker,
    /// What it is to be called for, while it is over its CPU rate.
    next: Option<Next>,
    pause: Option<Pin<Box<Sleep>>>,
    reply: oneshot::Sender<Over>,
}

/// What comes next.
enum Turn {
    Order(Option<Order>),
    Member(usize, Next),
}

impl Crew {
    fn new(instance: Instance, mut meter: Meter) -> Self {
        meter.of_no_session();
        Self {
            instance,
            meter,
            rounds: Rounds::default(),
            members: Slab::new(),
            order_first: false,
        }
    }

    async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), Exit> {
        loop {
            match poll_fn(|cx| self.poll(orders, cx)).await {
                Turn::Order(Some(order)) => self.obey(order).await?,
                Turn::Order(None) => return Ok(()),
                Turn::Member(place, next) => self.call(place, next).await?,
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Orders and sessions take turns, where both have something.
    fn poll(&mut self, orders: &mut mpsc::Receiver<Order>, cx: &mut Context<'_>) -> Poll<Turn> {
        self.order_first = !self.order_first;
        if self.order_first
            && let Poll::Ready(order) = self.poll_orders(orders, cx)
        {
            return Poll::Ready(order);
        }
        while let Some(place) = self.rounds.next(cx.waker()) {
            if let Poll::Ready(next) = self.poll_member(place) {
                return Poll::Ready(Turn::Member(place, next));
            }
        }
        self.poll_orders(orders, cx)
    }

    /// `None` when nobody can send an order any more, and no session lives.
    fn poll_orders(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        cx: &mut Context<'_>,
    ) -> Poll<Turn> {
        let order = orders.poll_recv(cx);
        if matches!(order, Poll::Ready(None)) && !self.members.is_empty() {
            return Poll::Pending;
        }
        order.map(Turn::Order)
    }

    fn poll_member(&mut self, place: usize) -> Poll<Next> {
        let Some(member) = self.members.get_mut(place) else {
            return Poll::Pending; // a late wake-up
        };
        member.token.disarm();
        let cx = &mut Context::from_waker(&member.waker);
        if member.reply.poll_closed(cx).is_ready() {
            // Nobody waits for it any more.
            self.instance.close(member.number);
        }
        let next = match member.next.take() {
            Some(next) => next,
            None => match self.instance.poll_next(member.number, cx) {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    member.meter.idle();
                    return Poll::Pending;
                }
            },
        };
        let delay = member.meter.delay();
        if !delay.is_zero() {
            let pause = member.pause.insert(Box::pin(tokio::time::sleep(delay)));
            if pause.as_mut().poll(cx).is_pending() {
                member.next = Some(next);
                return Poll::Pending;
            }
        }
        member.pause = None;
        self.rounds.again(&member.token);
        Poll::Ready(next)
    }

    async fn obey(&mut self, order: Order) -> Result<(), Exit> {
        let (session, label, request, reply) = match order {
            Order::Admit {
                label,
                request,
                reply,
            } => {
                self.instance.speak_for(&label);
                let admitted = self.instance.admit(&mut self.meter, &label, &request).await;
                let exit = admitted.as_ref().err().copied();
                _ = reply.send(admitted);
                // What cannot be sent is no trap.
                return exit
                    .filter(|exit| *exit != Exit::Failed)
                    .map_or(Ok(()), Err);
            }
            Order::Begin {
                label,
                session,
                request,
                reply,
            } => (session, label, request, reply),
        };
        self.instance.speak_for(&label);
        let number = self.instance.join(*session, label.clone());
        let entry = self.members.vacant_entry();
        let token = self.rounds.token(entry.key());
        self.rounds.again(&token);
        let member = entry.insert(Member {
            number,
            label,
            meter: self.instance.meter(),
            waker: token.clone().into(),
            token,
            next: None,
            pause: None,
            reply,
        });
        self.instance
            .construct(&mut member.meter, number, &request)
            .await
    }

    async fn call(&mut self, place: usize, next: Next) -> Result<(), Exit> {
        let Some(member) = self.members.get_mut(place) else {
            return Ok(());
        };
        let over = matches!(next, Next::Event(Event::Closed(_)));
        self.instance.speak_for(&member.label);
        self.instance
            .call(&mut member.meter, member.number, next)
            .await?;
        if over {
            self.instance
                .release(&mut member.meter, member.number)
                .await?;
            let member = self.members.remove(place);
            if let Some(session) = self.instance.leave(member.number) {
                _ = member.reply.send((Box::new(session), Ok(())));
            }
        }
        Ok(())
    }

    /// The instance has ended: gives all sessions back.
    fn dismiss(mut self, exit: Exit) {
        for member in self.members.drain() {
            if let Some(session) = self.instance.leave(member.number) {
                _ = member.reply.send((Box::new(session), Err(exit)));
            }
        }
    }
}
