//! Sets timers: two to see one of them run out, or all that there are.

use crate::behaviour::Behaviour;
use crate::report;
use crate::scene::Scene;

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Sends `tick` after `ms` milliseconds. A second timer for the same moment is cancelled.
pub(crate) struct Timer;

impl Behaviour for Timer {
    fn constructed(&self, scene: &Scene) {
        let after_ms = scene.number("ms", 10);
        report::outcome("set-timer", scene.session.set_timer(after_ms));
        match scene.session.set_timer(after_ms) {
            Ok(second) => scene.session.cancel_timer(second),
            Err(error) => report::outcome::<()>("set-timer", Err(error)),
        }
    }

    fn timer(&self, scene: &Scene) {
        report::outcome("send-datagram", scene.session.send_datagram(b"tick"));
    }
}

/// Sets timers that outlast every test until the host refuses one.
pub(crate) fn exhaust(scene: &Scene) {
    let mut count = 0;
    let error = loop {
        match scene.session.set_timer(HOUR_MS) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    let name = report::error_name(&error);
    report::line(&format!("timers {count} {name}"));
}
