//! A session driven by hand: commands in, events out.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    command::{Command, FORMS, Which},
    ended_cleanly,
    input::{self, Line},
    leave,
    output::{self, Output},
};
use crate::transport::{Closer, CommandError, Event, Session, StreamId};

/// Does what the standard input says until the session has ended, which the end of the input asks for, or an interrupt.
pub(super) async fn drive(
    session: Session,
    interrupt: impl Future<Output = ()>,
    output: &mut Output,
) -> anyhow::Result<()> {
    let mut console = Console {
        session,
        output,
        last: None,
        finished: BTreeSet::new(),
        waiting: None,
        input_ended: false,
    };
    let driven = console.run(interrupt).await;
    leave(console.session).await;
    driven
}

struct Console<'a> {
    session: Session,
    output: &'a mut Output,
    /// The stream opened last.
    last: Option<StreamId>,
    /// Streams that were finished, and are not over.
    finished: BTreeSet<StreamId>,
    /// What a stream had no room for. No command is read meanwhile.
    waiting: Option<(StreamId, Bytes)>,
    input_ended: bool,
}

/// What is next.
enum Turn {
    Event(Event),
    /// The input has ended, and all that it asked for was done.
    Done,
}

impl Console<'_> {
    async fn run(&mut self, interrupt: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut lines = input::lines();
        let mut interrupt = pin!(interrupt);
        loop {
            let reading = self.waiting.is_none() && !self.input_ended;
            tokio::select! {
                turn = poll_fn(|cx| self.poll_turn(cx)) => match turn {
                    Turn::Event(event) => {
                        self.output.say(&output::event(&event)).await?;
                        if let Event::Closed(closed) = &event {
                            return ended_cleanly(closed);
                        }
                        self.happened(&event).await?;
                    }
                    Turn::Done => self.session.close(0, "", Closer::Local),
                },
                line = lines.recv(), if reading => match line {
                    Some(Line::Whole(line)) => self.command(&line).await?,
                    Some(Line::TooLong) => self.fails("the line is too long (at most 65536 bytes)").await?,
                    None => self.input_ended = true,
                },
                () = &mut interrupt, if !self.session.is_closed() => {
                    self.session.close(0, "", Closer::Local);
                }
            }
        }
    }

    /// What was sent is looked at whenever the session was, since that is when it goes out.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Poll::Ready(event) = self.session.poll_event(cx) {
            return Poll::Ready(Turn::Event(event));
        }
        let done = self.input_ended
            && !self.session.is_closed()
            && self.waiting.is_none()
            && self.finished.is_empty()
            && self.session.info().send_buffered == 0;
        if done {
            return Poll::Ready(Turn::Done);
        }
        Poll::Pending
    }

    /// Goes on with what waited for that.
    async fn happened(&mut self, event: &Event) -> anyhow::Result<()> {
        let (Event::Writable(id) | Event::Stopped(id, _) | Event::StreamClosed(id)) = event else {
            return Ok(());
        };
        if let Event::StreamClosed(_) = event {
            self.finished.remove(id);
        }
        if let Some((_, data)) = self.waiting.take_if(|(waiting, _)| waiting == id) {
            self.send(*id, data).await?;
        }
        Ok(())
    }

    async fn command(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let command = match Command::parse(line) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(()),
            Err(wrong) => return self.fails(&wrong).await,
        };
        match command {
            Command::Open(dir) => match self.session.open(dir) {
                Ok(id) => {
                    self.last = Some(id);
                    self.output.say(&format!("open {id}")).await
                }
                Err(error) => self.fails(&format!("open: {}", remedy(error))).await,
            },
            Command::Send(which, data) => match self.stream(which) {
                Ok(id) => self.send(id, data).await,
                Err(wrong) => self.fails(&wrong).await,
            },
            Command::Datagram(data) => {
                let sent = self.session.send_datagram(&data);
                self.check("datagram", sent).await
            }
            Command::Drain => {
                self.session.drain();
                Ok(())
            }
            Command::Close(code, reason) => {
                self.session.close(code, &reason, Closer::Local);
                Ok(())
            }
            Command::Info => self.output.say(&output::info(&self.session.info())).await,
            Command::Help => {
                for form in FORMS {
                    self.output.say(&format!("help {form}")).await?;
                }
                Ok(())
            }
            Command::Fin(which) => {
                let finish = |session: &mut Session, id| session.finish(id);
                if let Some(id) = self.on_stream("fin", which, finish).await? {
                    self.finished.insert(id);
                }
                Ok(())
            }
            Command::Reset(which, code) => {
                let reset = |session: &mut Session, id| session.reset(id, code);
                self.on_stream("reset", which, reset).await.map(|_| ())
            }
            Command::Stop(which, code) => {
                let stop = |session: &mut Session, id| session.stop(id, code);
                self.on_stream("stop", which, stop).await.map(|_| ())
            }
            Command::Priority(which, priority) => {
                let set = |session: &mut Session, id| session.set_priority(id, priority);
                self.on_stream("priority", which, set).await.map(|_| ())
            }
        }
    }

    fn stream(&self, which: Which) -> Result<StreamId, String> {
        match which {
            Which::Id(id) => Ok(id),
            Which::Last => self
                .last
                .ok_or_else(|| "no stream was opened yet (open bidi|uni opens one)".to_owned()),
        }
    }

    /// Does something to a stream, and says which where that succeeded.
    async fn on_stream(
        &mut self,
        name: &str,
        which: Which,
        act: impl FnOnce(&mut Session, StreamId) -> Result<(), CommandError>,
    ) -> anyhow::Result<Option<StreamId>> {
        let id = match self.stream(which) {
            Ok(id) => id,
            Err(wrong) => return self.fails(&wrong).await.map(|()| None),
        };
        let done = act(&mut self.session, id);
        self.check(&format!("{name} {id}"), done).await?;
        Ok(done.is_ok().then_some(id))
    }

    async fn send(&mut self, id: StreamId, data: Bytes) -> anyhow::Result<()> {
        match self.session.send(id, data.clone(), false) {
            Err(CommandError::WouldBlock) => {
                self.waiting = Some((id, data));
                self.output.say(&format!("waiting {id}")).await
            }
            sent => self.check(&format!("send {id}"), sent).await,
        }
    }

    async fn check(&mut self, what: &str, done: Result<(), CommandError>) -> anyhow::Result<()> {
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.fails(&format!("{what}: {}", remedy(error))).await,
        }
    }

    async fn fails(&mut self, wrong: &str) -> anyhow::Result<()> {
        self.output.say(&format!("error {wrong}")).await
    }
}

/// An error with what to do about it.
fn remedy(error: CommandError) -> String {
    let remedy = match error {
        CommandError::UnknownStream => "`open` and `opened` name those that are",
        CommandError::WrongDirection => {
            "a uni stream is written by who opened it, read by the other"
        }
        CommandError::Finished | CommandError::Reset => "open another stream",
        CommandError::WouldBlock => "try again after `writable`",
        CommandError::StreamLimit => "end a stream first; `info` tells the limits",
        CommandError::Draining => "use the streams that are open",
        CommandError::Closed => "connect again",
        CommandError::TooLarge => "`info` tells max-datagram-size",
        CommandError::Unsupported => "the server does not take this",
        _ => return error.to_string(),
    };
    format!("{error} ({remedy})")
}
