//! Certificates: from files, or made for development.

use std::{net::Ipv4Addr, net::Ipv6Addr, path::Path, sync::Arc};

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

/// How long a development certificate is good. Browsers take a certificate by its hash only where it is good for 14 days
/// at most (W3C WebTransport, "Verifying a Certificate Hash").
const DEVELOPMENT_DAYS: i64 = 13;

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Makes a certificate for this machine alone: `localhost`, `127.0.0.1` and `::1`, good for 13 days.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness to give.
    pub fn development() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.extend([
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ]);
        // An hour back, for clocks that differ.
        params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
        params.not_after = params.not_before + Duration::days(DEVELOPMENT_DAYS);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            chain: vec![certificate.into()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// Reads a PEM chain, the server's own certificate first, and its PEM key.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or holds no such thing, each by its name.
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
        Ok(Self {
            chain: certificates,
            key: private,
        })
    }

    /// The SHA-256 of the server's own certificate, as browsers take it in `serverCertificateHashes`.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.chain
            .first()
            .map_or([0; 32], |own| Sha256::digest(own).into())
    }

    /// The TLS settings of a server with this certificate: TLS 1.3, no early data.
    ///
    /// # Errors
    ///
    /// When the key does not belong to the certificate.
    pub fn server_config(&self) -> anyhow::Result<rustls::ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .context("the private key does not belong to the certificate")
    }
}

#[cfg(test)]
mod tests {
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
}
