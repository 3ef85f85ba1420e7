//! Connections that commands open: to see whether a host answers, and to read a page of the gateway.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use http::{StatusCode, Uri};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest wait for the gateway on this machine.
const PAGE_MAX: Duration = Duration::from_secs(3);
/// Longest wait for a connection, TLS included.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connects to the host of a URL, with TLS if it is `https`, and closes the connection. Trusts the
/// authorities in `ca_file` instead of Mozilla's list.
pub(crate) async fn connect(url: &str, ca_file: Option<&Path>) -> io::Result<()> {
    let uri = url.parse().map_err(io::Error::other)?;
    let connected = tokio::time::timeout(CONNECT_MAX, open(&uri, ca_file));
    connected.await.unwrap_or_else(|_| {
        let seconds = CONNECT_MAX.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {seconds} s"),
        ))
    })
}

async fn open(uri: &Uri, ca_file: Option<&Path>) -> io::Result<()> {
    let encrypted = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(invalid("the URL must begin with http:// or https://")),
    };
    let host = uri.host().ok_or_else(|| invalid("the URL has no host"))?;
    let host = host.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    if encrypted {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| invalid(&error.to_string()))?;
        let connector = TlsConnector::from(Arc::new(tls(ca_file)?));
        connector.connect(name, stream).await?;
    }
    Ok(())
}

/// The page at a URL of the gateway on this machine, for the holder of a token.
pub(crate) async fn page(url: &str, token: Option<&str>) -> anyhow::Result<String> {
    let (status, page) = weir_loadtest::get(url, token, PAGE_MAX).await?;
    ensure!(status == StatusCode::OK, "it answers {status}: {page}");
    Ok(page)
}

fn tls(ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
                let certificate = certificate.map_err(io::Error::other)?;
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.to_owned())
}
