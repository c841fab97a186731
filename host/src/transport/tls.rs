//! Certificates: from files, or made for development.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

mod certificates;

pub(crate) use certificates::{Certificates, Choice};

/// How long a development certificate is good. Browsers take a certificate by its hash only where it is good for 14 days
/// at most (W3C WebTransport, "Verifying a Certificate Hash").
const DEVELOPMENT_DAYS: i64 = 13;

/// A certificate chain with its key. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// Makes a certificate for this machine alone: `localhost`, `127.0.0.1` and `::1`, good for 13 days.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness to give.
    pub fn development() -> anyhow::Result<Self> {
        Self::development_for(&[])
    }

    /// Makes one for these hosts as well, names or addresses.
    pub(crate) fn development_for(hosts: &[String]) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.extend([
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ]);
        for host in hosts {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            params
                .subject_alt_names
                .push(match address.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(host.trim_end_matches('.').try_into()?),
                });
        }
        // An hour back, for clocks that differ.
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = params.not_before + Duration::days(DEVELOPMENT_DAYS);
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Self::new(vec![certificate.into()], key)
    }

    /// Reads a PEM chain, the server's own certificate first, and its PEM key.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or holds no such thing, or the two do not belong together: each by its name.
    pub fn from_files(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| {
                format!(
                    "{}: cannot be read as a PEM certificate chain",
                    chain.display()
                )
            })?;
        anyhow::ensure!(
            !certificates.is_empty(),
            "{}: holds no certificate (expected PEM, `-----BEGIN CERTIFICATE-----`)",
            chain.display()
        );
        let private = PrivateKeyDer::from_pem_file(key).with_context(|| {
            format!(
                "{}: cannot be read as an unencrypted PEM private key",
                key.display()
            )
        })?;
        Self::new(certificates, private).with_context(|| {
            format!(
                "{}: the private key does not belong to the certificate {}",
                key.display(),
                chain.display()
            )
        })
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> anyhow::Result<Self> {
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Self(Arc::new(certified)))
    }

    /// The server's own certificate, the first of the chain.
    pub(crate) fn own(&self) -> Option<&CertificateDer<'static>> {
        self.0.cert.first()
    }

    /// The SHA-256 of the server's own certificate, as browsers take it in `serverCertificateHashes`.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let own = self.0.cert.first();
        own.map_or([0; 32], |own| Sha256::digest(own).into())
    }

    /// The TLS settings of a server with this certificate: TLS 1.3, no early data, a ticket with each connection.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up so.
    pub fn server_config(&self) -> anyhow::Result<rustls::ServerConfig> {
        server_config(Arc::new(SingleCertAndKey::from(self.0.clone())))
    }
}

fn server_config(resolver: Arc<dyn ResolvesServerCert>) -> anyhow::Result<rustls::ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // Tickets that hold what is needed to resume, instead of a table that would hold it for the last 256 only. A client
    // uses one up for each connection, and gets another with that.
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use rustls::HandshakeKind;

    use super::*;

    #[test]
    fn a_development_certificate_serves_and_has_a_hash_of_its_own() {
        let (a, b) = (
            Certificate::development().unwrap(),
            Certificate::development().unwrap(),
        );
        a.server_config().unwrap();
        assert_ne!(a.hash(), b.hash());
    }

    /// Shakes hands in memory, and says how.
    fn handshake(
        server: &Arc<rustls::ServerConfig>,
        client: &Arc<rustls::ClientConfig>,
    ) -> Option<HandshakeKind> {
        let name = "localhost".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut server = rustls::ServerConnection::new(server.clone()).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() || server.wants_write() {
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.drain(..).as_slice()).unwrap();
            server.process_new_packets().unwrap();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.drain(..).as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        server.handshake_kind()
    }

    #[test]
    fn a_client_resumes_however_many_came_after_it() {
        let certificate = Certificate::development().unwrap();
        let server = Arc::new(certificate.server_config().unwrap());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.own().unwrap().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = || {
            let config = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            Arc::new(config)
        };
        let first = client();
        assert_eq!(handshake(&server, &first), Some(HandshakeKind::Full));
        for _ in 0..300 {
            assert_eq!(handshake(&server, &client()), Some(HandshakeKind::Full));
        }
        for _ in 0..3 {
            assert_eq!(handshake(&server, &first), Some(HandshakeKind::Resumed));
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello").unwrap();
        let error = Certificate::from_files(file.path(), file.path()).unwrap_err();
        assert!(
            format!("{error:#}").contains(&file.path().display().to_string()),
            "{error:#}"
        );
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let chain = folder.path().join(name).with_extension("pem");
            std::fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
            let file = folder.path().join(name).with_extension("key");
            std::fs::write(&file, key.serialize_pem()).unwrap();
            (chain, file)
        };
        let (a, b) = (pair("a"), pair("b"));
        Certificate::from_files(&a.0, &a.1).unwrap();
        let error = Certificate::from_files(&a.0, &b.1).unwrap_err().to_string();
        assert!(
            error.contains("b.key") && error.contains("a.pem"),
            "{error}"
        );
    }
}
