//! What a client proves to us, if it is asked for a certificate: it is believed.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::relay::tape::{Entry, Text};
use crate::wire::hex;

type Signed = Result<HandshakeSignatureValid, Error>;

/// Asks clients for a certificate, and takes any or none: nginx's `ssl_verify_client optional_no_ca`. Like there, a client has
/// to have the key of the one that it shows.
#[derive(Debug)]
pub(super) struct AnyClient(pub(super) Arc<CryptoProvider>);

/// A certificate that cannot be read proves nothing, and is taken all the same.
fn lenient(verified: Signed) -> Signed {
    match verified {
        Err(Error::InvalidCertificate(error)) if error != rustls::CertificateError::BadSignature => {
            Ok(HandshakeSignatureValid::assertion())
        }
        verified => verified,
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        of: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Signed {
        lenient(verify_tls12_signature(message, of, signed, &self.0.signature_verification_algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        of: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Signed {
        lenient(verify_tls13_signature(message, of, signed, &self.0.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What is told of a client's certificate.
pub(super) fn told(certificate: &CertificateDer<'_>) -> Entry {
    let parsed = X509Certificate::from_der(certificate);
    let subject = parsed.map(|(_, parsed)| parsed.subject().to_string()).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    Entry::TlsCertificate { sha256: hex(digest.as_ref()), subject: Text::new(subject) }
}
