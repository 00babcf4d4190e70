//! TLS towards a receiver: whom to believe.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::record::sink::{Peer, Tls};

/// Where distributions put the certificates that the machine believes: Debian, Fedora, openSUSE, Alpine.
const MACHINES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Speaks TLS in `stream` to `peer`.
///
/// # Errors
/// If it is not believed, or does not believe us.
pub async fn within(stream: TcpStream, peer: &Peer, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let name = tls.server.clone().unwrap_or_else(|| peer.host.clone());
    let name = ServerName::try_from(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(Arc::new(config(tls)?)).connect(name, stream).await
}

fn config(tls: &Tls) -> io::Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let client = tls.client.as_ref().map(|client| client.load(&provider)).transpose().map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(tls)?);
    Ok(match client {
        Some(client) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client))),
        None => builder.with_no_client_auth(),
    })
}

fn roots(tls: &Tls) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if !tls.roots.is_empty() {
        for root in &tls.roots {
            roots.add(CertificateDer::from(root.clone())).map_err(io::Error::other)?;
        }
        return Ok(roots);
    }
    let bundle = MACHINES.iter().find_map(|path| std::fs::read(path).ok());
    let bundle = bundle.ok_or_else(|| {
        io::Error::other(
            "this machine has no list of certificates that it believes: install ca-certificates, or write `ca:`",
        )
    })?;
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
    Ok(roots)
}
