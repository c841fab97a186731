//! The close codes of the host: what a peer sees when not its handler but the host ended a session.

/// A close code and its reason.
pub(crate) type Close = (u32, &'static str);

/// The handler trapped.
pub(crate) const TRAPPED: Close = (0xffff_ff01, "handler trapped");
/// The handler used more CPU in one callback than it may.
pub(crate) const OUT_OF_TIME: Close = (0xffff_ff02, "handler exceeded its CPU deadline");
/// The handler needed more memory than it may have.
pub(crate) const OUT_OF_MEMORY: Close = (0xffff_ff03, "handler ran out of memory");
/// The server is shutting down.
pub(crate) const SHUTTING_DOWN: Close = (0xffff_ff04, "server shutting down");
