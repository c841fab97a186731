//! The listener for operators, and the token that it demands.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// The shortest token that is taken, in bytes: what cannot be guessed over a network.
const TOKEN_MIN: usize = 16;

/// The listener for operators, probes and scrapes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Admin {
    /// Where it is served, by HTTP without TLS. Default `127.0.0.1:9464`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A file that holds the token which every request must have then, as `Authorization: Bearer`. Default none, which is
    /// for loopback only.
    pub token_file: Option<PathBuf>,
    /// Connections at once; those beyond wait until one is over. Default 64.
    pub connections: usize,
    /// How long a connection may take for its one request and the answer. Default 10 s.
    pub timeout: Duration,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            token_file: None,
            connections: 64,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Admin {
    /// Reads the token that requests must have, if they must.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or there is none and the address is not loopback's.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        match &self.token_file {
            Some(file) => token(file).map(Some),
            None if self.listen.ip().is_loopback() => Ok(None),
            None => bail!(
                "the admin listener on {} can be reached from other machines and needs a token: name a file that holds one (`token-file` of [admin], or --admin-token-file), or listen on 127.0.0.1",
                self.listen
            ),
        }
    }
}

fn token(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let text = fs::read_to_string(file)
        .with_context(|| format!("{name}: the token of the admin listener cannot be read"))?;
    let token = text.trim();
    ensure!(
        token.len() >= TOKEN_MIN && token.bytes().all(|byte| byte.is_ascii_graphic()),
        "{name}: the token of the admin listener is one word of at least {TOKEN_MIN} ASCII characters (`openssl rand -hex 32` makes one)"
    );
    Ok(token.to_owned())
}
