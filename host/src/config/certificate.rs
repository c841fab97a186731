//! Looks into a certificate that an operator's file names.

use std::{ops::Range, path::Path};

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::problem::Report;
use crate::transport::tls::Certificate;

/// Reports what keeps a certificate from serving these authorities.
pub(super) fn look_into(
    certificate: &Path,
    key: &Path,
    place: &Range<usize>,
    authorities: &[(String, Range<usize>)],
    report: &mut Report,
) {
    let read = Certificate::from_files(certificate, key).and_then(|read| {
        read.server_config()?;
        Ok(read)
    });
    let read = match read {
        Ok(read) => read,
        Err(error) => return report.add(place, format!("{error:#}")),
    };
    let name = certificate.display();
    let Some(own) = read.own() else {
        return;
    };
    match validity(own) {
        Some((begins, ends)) => {
            let now = OffsetDateTime::now_utc();
            if now > ends {
                report.add(
                    place,
                    format!("{name}: expired on {} (renew it)", ends.date()),
                );
            } else if now < begins {
                let what = format!(
                    "{name}: begins only on {} (look at the clock)",
                    begins.date()
                );
                report.add(place, what);
            }
        }
        None => return report.add(place, format!("{name}: is no X.509 certificate (renew it)")),
    }
    for (authority, place) in authorities {
        if !covers(own, authority) {
            let what = format!("{name} is no certificate for {authority} (add the name to it)");
            report.add(place, what);
        }
    }
}

fn validity(own: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, parsed) = X509Certificate::from_der(own).ok()?;
    let validity = parsed.validity();
    Some((
        validity.not_before.to_datetime(),
        validity.not_after.to_datetime(),
    ))
}

/// Whether clients take the certificate for that host; for all one label below, where it begins with `*.`.
fn covers(own: &CertificateDer<'_>, authority: &str) -> bool {
    // No certificate names this label, so that only a wildcard covers it.
    let host = match authority.strip_prefix("*.") {
        Some(parent) => format!("any-{}.{parent}", "0".repeat(16)),
        None => authority.trim_matches(['[', ']']).to_owned(),
    };
    let (Ok(parsed), Ok(host)) = (ParsedCertificate::try_from(own), ServerName::try_from(host))
    else {
        return false;
    };
    verify_server_name(&parsed, &host).is_ok()
}
