//! TLS towards providers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificate authorities of a provider could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read certificate authorities from {path}: {source}")]
    Read {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("{path} holds no certificate")]
    Empty { path: PathBuf },
    #[error("{path} holds a certificate that is not usable: {source}")]
    Unusable {
        path: PathBuf,
        source: rustls::Error,
    },
}

/// TLS settings that trust the authorities in `ca_file`, or else those of Mozilla's list.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    static PUBLIC: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        with_roots(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        })
    });
    match ca_file {
        None => Ok(PUBLIC.clone()),
        Some(path) => Ok(with_roots(read_roots(path)?)),
    }
}

#[expect(
    clippy::expect_used,
    reason = "ring supports the default protocol versions"
)]
fn with_roots(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default protocol versions are supported")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let read = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        roots
            .add(certificate.map_err(read)?)
            .map_err(|source| TlsError::Unusable {
                path: path.to_owned(),
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(roots)
}
