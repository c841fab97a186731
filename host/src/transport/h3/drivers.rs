//! Knows when the tasks that `quinn` starts by itself have ended, and with them its sockets.

use std::{future::Future, io, net::UdpSocket, pin::Pin, sync::Arc, time::Instant};

use futures_util::future::Either;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::sync::watch;

use super::hold::Hold;

/// Tokio, for `quinn`, with a count of the tasks that run. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Drivers {
    running: watch::Sender<usize>,
}

impl Drivers {
    /// Waits until none runs.
    pub(super) async fn ended(&self) {
        // The sender is here, so waiting does not fail.
        _ = self.running.subscribe().wait_for(|&count| count == 0).await;
    }
}

/// Counts a task as long as it lives.
struct Running(watch::Sender<usize>);

impl Running {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Runtime for Drivers {
    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let running = Running::new(&self.running);
        let driver = match Hold::next() {
            Some(hold) => Either::Left(hold.drive(driver)),
            None => Either::Right(driver),
        };
        tokio::spawn(async move {
            let _running = running; // dropped after the driver, which ends at its await
            driver.await;
        });
    }

    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
