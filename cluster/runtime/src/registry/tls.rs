//! Which certificates are trusted.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, pki_types::CertificateDer};

use super::PullError;

/// What certificates are checked against: the system's authorities, and these (files, PEM). Blocks.
pub(super) fn trusting(authorities: &[PathBuf]) -> Result<ClientConfig, PullError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    for path in authorities {
        let bad = |e: String| PullError::Local(format!("certificate authority {}: {e}", path.display()));
        let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let mut count = 0;
        for certificate in <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(e.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(bad("holds no certificate in PEM form".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| PullError::Local(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
