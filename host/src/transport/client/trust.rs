//! Which servers are trusted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use sha2::{Digest as _, Sha256};

use super::ConnectError;

/// Which servers are trusted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Those that the machine trusts.
    #[default]
    Platform,
    /// Those with a certificate of these authorities, in a PEM file.
    Authorities(PathBuf),
    /// Those whose own certificate has one of these SHA-256 hashes, as in `serverCertificateHashes`. Neither its names nor
    /// its dates count.
    Hashes(Vec<[u8; 32]>),
    /// All, on loopback addresses only.
    Insecure,
}

impl Trust {
    /// TLS 1.3 with that trust, without a protocol (ALPN), for connections of one's own. That the address is of loopback is
    /// the caller's to see to.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the machine trusts nobody.
    pub fn client_config(&self) -> Result<ClientConfig, ConnectError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(ConnectError::invalid)?;
        let pinned = |hashes| Arc::new(Pinned::new(&provider, hashes));
        Ok(match self {
            Self::Platform => builder.with_root_certificates(platform()?),
            Self::Authorities(file) => builder.with_root_certificates(authorities(file)?),
            Self::Hashes(hashes) => builder
                .dangerous()
                .with_custom_certificate_verifier(pinned(Some(hashes.clone()))),
            Self::Insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(pinned(None)),
        }
        .with_no_client_auth())
    }
}

/// What the machine trusts. Of its certificates, those that cannot be read are left out.
fn platform() -> Result<RootCertStore, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}"));
        return Err(ConnectError::Invalid(format!(
            "this machine has no certificate authorities that it trusts{} (give some, or the hash of the server's certificate)",
            why.unwrap_or_default()
        )));
    }
    Ok(roots)
}

fn authorities(file: &Path) -> Result<RootCertStore, ConnectError> {
    let name = file.display();
    let unreadable = |error: &dyn std::fmt::Display| {
        ConnectError::Invalid(format!(
            "{name}: cannot be read as PEM certificates: {error}"
        ))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(ConnectError::Invalid(format!(
            "{name}: holds no certificate (expected PEM, `-----BEGIN CERTIFICATE-----`)"
        )));
    }
    Ok(roots)
}

/// Trusts certificates by their hash, or every one. That the server holds the key is checked all the same.
#[derive(Debug)]
struct Pinned {
    hashes: Option<Vec<[u8; 32]>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(provider: &CryptoProvider, hashes: Option<Vec<[u8; 32]>>) -> Self {
        Self {
            hashes,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash: [u8; 32] = Sha256::digest(own).into();
        match &self.hashes {
            Some(hashes) if !hashes.contains(&hash) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Some(_) | None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_holds_no_authority_is_named() {
        for content in [
            "hello",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let trust = Trust::Authorities(file.path().to_owned());
            let error = trust.client_config().unwrap_err().to_string();
            assert!(
                error.contains(&file.path().display().to_string()),
                "{error}"
            );
        }
        let trust = Trust::Authorities("missing.pem".into());
        let error = trust.client_config().unwrap_err().to_string();
        assert!(error.contains("missing.pem"), "{error}");
    }
}
