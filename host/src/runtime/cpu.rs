//! Who runs, for how long, and at whose cost.
//!
//! A guest yields at each tick of the epoch, whose `pace` is slower while no call is long. A call that ends within its
//! first tick or so has run at once, on whichever worker its session was woken on. One that yields twice is long: it goes on
//! in the background `lane`, which has one place fewer than there are workers, so that any number of computing guests leaves
//! a worker for short calls; a session whose calls are long begins them there. What a call spends is charged to its session's
//! and its tenant's `bucket`: who is over the rate waits, and is not ended. Where the machine is full, `shares` holds each
//! tenant to its weight.

mod account;
mod bucket;
mod lane;
mod meter;
mod pace;
mod shares;

pub use account::{Account, AccountLimits};
pub(super) use lane::Lane;
pub(super) use meter::{Meter, Stopped, Yield};
pub(super) use pace::Pace;
pub(super) use shares::{Shares, Watch};
