//! wharf as a library, with an instance of the echo component for each session.

use std::path::Path;

use wharf::{
    config::{Config, Origins, Route, Tls},
    server::Server,
};

/// As many as may be asked for, and those that end meanwhile.
const SESSIONS: u32 = 10_000 + 256;

pub(super) async fn serve(component: &Path) -> anyhow::Result<()> {
    let mut route = Route::new("/", component);
    route.origins = Origins::Any;
    let mut config = Config::new(vec![super::loopback()], Tls::Development, vec![route]);
    config.sessions = SESSIONS;
    // One session's echoes may take all that there is: rates would tell of the budget otherwise.
    config.runtime.cpu_per_second = None;
    // All of them come from this machine, and may have a connection each.
    config.sessions_per_ip = u32::MAX;
    config.transport.connections = SESSIONS as usize;
    config.transport.connections_per_ip = usize::MAX;
    config.transport.handshakes_per_ip = u32::MAX;
    config.cache_dir = Some(super::cache_dir());
    let server = Server::bind(config).await?;
    super::announce(server.local_addr(), server.certificate_hash())?;
    server.run(std::future::pending()).await;
    Ok(())
}
