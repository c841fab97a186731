//! Resets that wait until the header of their stream has most likely arrived.
//!
//! A reset takes back what was not delivered, the header too, and then the peer cannot tell whose stream it was. The
//! drafts ask for RESET_STREAM_AT, which would deliver the header in any case (WebTransport over HTTP/3, "Resetting Data
//! Streams"), and which quinn does not have. So the reset of a young stream waits until a header that was not lost is
//! acknowledged: two round trips, and the time by which a peer may delay its acknowledgement.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::Context,
    time::{Duration, Instant},
};

use tokio::time::Sleep;
use wharf_proto::{buffer::SendBuffer, code::HttpCode};

use super::stream::SendHalf;

/// How long a peer may delay an acknowledgement, unless it says otherwise (RFC 9000, "Transport Parameter Definitions").
const ACK_DELAY: Duration = Duration::from_millis(25);
/// The longest wait, whatever the path.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// The resets of one session that wait.
pub(super) struct Resets {
    most: usize,
    waiting: VecDeque<(Instant, SendHalf, HttpCode)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Resets {
    /// So many may wait; the next is not delayed.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: VecDeque::new(),
            sleep: None,
        }
    }

    /// Until when a stream that this end opened then is too young to be reset.
    pub(super) fn delay(&self, opened: Instant, rtt: Duration) -> Option<Instant> {
        let until = opened + (rtt * 2 + ACK_DELAY).min(DELAY_MAX);
        (self.waiting.len() < self.most && until > Instant::now()).then_some(until)
    }

    /// What the stream was to send is given up now.
    pub(super) fn put(&mut self, until: Instant, mut send: SendHalf, code: HttpCode) {
        send.buffer = SendBuffer::default();
        self.waiting.push_back((until, send, code));
    }

    /// Resets what has waited long enough, and leaves the waker for the rest.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            while let Some((_, send, code)) = self.waiting.pop_front_if(|(until, ..)| *until <= now)
            {
                send.reset(code);
            }
            let Some((until, ..)) = self.waiting.front() else {
                self.sleep = None;
                return;
            };
            let until = tokio::time::Instant::from_std(*until);
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            sleep.as_mut().reset(until);
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Resets everything now.
    pub(super) fn flush(&mut self) {
        for (_, send, code) in self.waiting.drain(..) {
            send.reset(code);
        }
    }
}

impl fmt::Debug for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resets")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_delayed_where_another_may_wait_and_its_stream_is_young() {
        let (now, rtt) = (Instant::now(), Duration::from_millis(100));
        assert!(Resets::new(1).delay(now, rtt).is_some());
        assert!(Resets::new(0).delay(now, rtt).is_none());
        let old = now.checked_sub(DELAY_MAX).unwrap();
        assert!(Resets::new(1).delay(old, rtt).is_none());
    }
}
