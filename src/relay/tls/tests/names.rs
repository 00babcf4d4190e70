//! Certificates for names.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::peers::{Lab, client, face, leaf, settings};
use crate::relay::tape::Entry;
use crate::relay::tls::Settings;
use crate::service::tls::{Given, GivenKey, Leaf, Name};

/// Serial number, public key and the whole of a certificate, and what it says.
fn parts(der: &[u8]) -> (Vec<u8>, Vec<u8>, String) {
    let (_, parsed) = X509Certificate::from_der(der).unwrap();
    let key = parsed.public_key().subject_public_key.data.to_vec();
    (parsed.raw_serial().to_vec(), key, format!("{} {}", parsed.subject(), parsed.issuer()))
}

#[test]
fn each_name_has_a_certificate_that_stays() {
    let (one, two) = (face(1, leaf(), false), face(1, leaf(), false));
    let shop = one.shown(Some("shop.example.org")).0;
    assert_eq!(two.shown(Some("shop.example.org")).0, shop, "the same after a restart");
    assert_eq!(one.shown(Some("SHOP.example.org")).0, shop);
    let (mail, own) = (one.shown(Some("mail.example.org")).0, one.shown(None).0);
    let elsewhere = face(2, leaf(), false).shown(Some("shop.example.org")).0;
    let all = [&shop, &mail, &own, &elsewhere].map(|der| parts(der));
    for (one, other) in [(0, 1), (0, 2), (1, 2), (0, 3)] {
        assert!(all[one].0 != all[other].0 && all[one].1 != all[other].1, "{all:?}");
    }
    assert!(all[0].2.contains("CN=shop.example.org") && all[2].2.contains("CN=web01"), "{all:?}");
    // Nobody is called that.
    for odd in ["", ".", "a..b", "a b.example", "*.example.org", "b\u{e4}d", &"a".repeat(65), "x\n"] {
        assert_eq!(one.shown(Some(odd)).0, own, "{odd:?}");
    }
}

#[test]
fn one_certificate_for_all_names_is_made_once() {
    let face = face(1, Leaf::default(), false);
    let own = face.shown(None);
    for name in ["a.example", "b.example"] {
        assert_eq!(face.shown(Some(name)), own);
    }
    assert_eq!(own.1, 0);
}

/// Time stands still, so nothing more may be made after the first ones.
#[tokio::test(start_paused = true)]
async fn a_thousand_names_cost_little() {
    let face = face(1, leaf(), false);
    let own = face.shown(None).0;
    let mut made = 0;
    for number in 0..1000 {
        let (shown, kept) = face.shown(Some(&format!("n{number}.example.org")));
        made += usize::from(shown != own);
        assert!(kept <= 256);
    }
    assert_eq!(made, 64);
    // Those that are known stay; later there are more.
    assert_ne!(face.shown(Some("n5.example.org")).0, own);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let more = (1000..2000).filter(|number| face.shown(Some(&format!("n{number}.example.org"))).0 != own).count();
    assert_eq!(more, 20);
    // As many as there is time for: what is kept is bounded.
    for number in 0..1000 {
        tokio::time::advance(std::time::Duration::from_millis(50)).await;
        let (shown, kept) = face.shown(Some(&format!("m{number}.example.org")));
        assert!(shown != own && kept <= 256);
    }
}

#[test]
fn an_issuer_signs_all_of_a_hosts_certificates() {
    let issuer = Name { common_name: "Acme Issuing".into(), country: "DE".into(), ..Name::default() };
    let face = face(1, Leaf { issuer, ..leaf() }, false);
    for name in ["a.example", "b.example"] {
        let (_, _, said) = parts(&face.shown(Some(name)).0);
        assert_eq!(said, format!("O=Acme, CN={name} C=DE, CN=Acme Issuing"));
    }
}

#[tokio::test]
async fn a_clients_certificate_is_believed_and_told_of() {
    let (der, key) = crate::service::tls::sample(7);
    for version in [&TLS12, &TLS13] {
        for asks in [true, false] {
            let mut config = client(&[version], &[]);
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
            let provider = rustls::crypto::ring::default_provider();
            let certified = rustls::sign::CertifiedKey::from_der(vec![der.clone().into()], key, &provider).unwrap();
            config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
            let settings = Settings { face: face(1, leaf(), asks), ..settings() };
            let (stream, mut rest) = Lab::new(settings).connect(config).await;
            drop((stream.unwrap(), rest.service().await));
            let told = rest.ended().await;
            let shown = told.iter().find_map(|entry| match entry {
                Entry::TlsCertificate { sha256, subject } => Some((sha256.clone(), subject.as_str().to_owned())),
                _ => None,
            });
            let digest = ring::digest::digest(&ring::digest::SHA256, &der);
            let expected = (crate::wire::hex(digest.as_ref()), "CN=sample".to_owned());
            assert_eq!(shown, asks.then_some(expected), "{told:?}");
        }
    }
}

#[test]
fn what_is_given_is_checked() {
    assert!(GivenKey::new(b"").is_err());
    let none = GivenKey::new(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(none.is_err() || Leaf { key: none.ok(), ..Leaf::default() }.check().is_err());
    assert!(Given::authority(b"", b"").is_err());
}
