//! The keying material of a session: what TLS derives it from.

use super::CommandError;

/// The label of the exporter (WebTransport over HTTP/3, "Use of Keying Material Exporters"; the same over HTTP/2).
pub(super) const LABEL: &[u8] = b"EXPORTER-WebTransport";

/// The context of the exporter, which tells sessions and the application's labels apart.
///
/// # Errors
///
/// `TooLarge` where `label` or `context` is longer than 255 bytes.
pub(super) fn context(session: u64, label: &[u8], context: &[u8]) -> Result<Vec<u8>, CommandError> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).map_err(|_| CommandError::TooLarge);
    let mut full = session.to_be_bytes().to_vec();
    for bytes in [label, context] {
        full.push(length(bytes)?);
        full.extend_from_slice(bytes);
    }
    Ok(full)
}
