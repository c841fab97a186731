//! Chooses the certificate by the name that a client asks for, from a choice that can be replaced.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Certificate, server_config};
use crate::authority::Hosts;

/// Whose certificate a client is shown. Cloning it is cheap; all clones are one choice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates(Arc<RwLock<Choice>>);

/// Certificates by the hosts that they are for.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    certificates: Vec<Certificate>,
    /// Places in `certificates`.
    hosts: Hosts<usize>,
}

impl Choice {
    /// Adds a certificate for these hosts, as [`Hosts::give`] takes them.
    ///
    /// # Errors
    ///
    /// When one of them has another, or is malformed.
    pub(crate) fn add(&mut self, hosts: &[String], certificate: Certificate) -> anyhow::Result<()> {
        self.hosts.give(hosts, &self.certificates.len())?;
        self.certificates.push(certificate);
        Ok(())
    }

    fn find(&self, server_name: Option<&str>) -> Option<&Certificate> {
        let place = self.hosts.of_connection(server_name)?;
        self.certificates.get(*place)
    }
}

impl Certificates {
    pub(crate) fn new(choice: Choice) -> Self {
        Self(Arc::new(RwLock::new(choice)))
    }

    /// Has handshakes that begin from now on choose among others.
    pub(crate) fn replace(&self, choice: Choice) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = choice;
    }

    /// The TLS settings of a server with these certificates: TLS 1.3, no early data. A client that asks for a name that
    /// nobody has is shown none, and the handshake fails.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up so.
    pub(crate) fn server_config(&self) -> anyhow::Result<rustls::ServerConfig> {
        server_config(Arc::new(self.clone()))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let choice = self.0.read().unwrap_or_else(PoisonError::into_inner);
        choice
            .find(hello.server_name())
            .map(|certificate| certificate.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
        let made = || Certificate::development().unwrap();
        let (app, rest) = (made(), made());
        let mut choice = Choice::default();
        let hosts = ["app.example".to_owned(), "*.app.example".to_owned()];
        choice.add(&hosts, app.clone()).unwrap();
        let shown = |choice: &Choice, name| choice.find(name).map(Certificate::hash);
        assert_eq!(shown(&choice, None), None);
        assert_eq!(shown(&choice, Some("other.example")), None);
        choice.add(&[], rest.clone()).unwrap();
        for name in ["app.example", "APP.example", "a.app.example"] {
            assert_eq!(shown(&choice, Some(name)), Some(app.hash()), "{name}");
        }
        for name in [None, Some("a.b.app.example"), Some("other.example")] {
            assert_eq!(shown(&choice, name), Some(rest.hash()), "{name:?}");
        }
    }
}
