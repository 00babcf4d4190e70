use std::sync::OnceLock;

use super::*;
use crate::emulate::Secret;
use crate::service::tls::{Given, GivenKey, Leaf, Name};
use crate::service::{HttpSite, Service};

fn notary(secret: u8, replicas: u16) -> Notary {
    let wall = WallClock { zero_micros: 1_800_000_000_000_000 };
    Notary::new(Identity::new(Secret([secret; 16]), "web"), wall, replicas, 7)
}

fn owner(last: u8) -> Owner {
    Owner { ip: [192, 0, 2, last].into(), name: format!("web{last:02}"), service: 3 }
}

fn own() -> Credentials {
    Credentials::Own(Box::default())
}

/// A key that has so many octets in DER.
fn key_of(der: Vec<u8>) -> GivenKey {
    GivenKey { der, loaded: OnceLock::new() }
}

fn secured(leaf: Leaf) -> Secured {
    let inner = Service { name: "web".into(), kind: ServiceKind::Http(HttpSite::default()) };
    Secured { credentials: Credentials::Own(Box::new(leaf)), inner }
}

fn certificate(notary: &mut Notary, owner: &Owner, leaf: &Leaf, day: u64) -> (Vec<u8>, i64) {
    let now = Instant::from_secs(86_400 * day as i64);
    notary.config(&secured(leaf.clone()), owner, now).unwrap();
    let whose = Whose { identity: &notary.identity, owner, asked: None };
    let second = notary.wall.second(now);
    let made = super::certificate::make(&notary.provider, &whose, leaf, second);
    let made = made.unwrap();
    (made.key.cert[0].to_vec(), made.until)
}

/// Whether `needle` is in it.
fn has(certificate: &[u8], needle: &[u8]) -> bool {
    certificate.windows(needle.len()).any(|part| part == needle)
}

#[test]
fn a_certificate_is_the_hosts_for_ever_and_no_other_hosts() {
    let leaf = Leaf::default();
    let (one, until) = certificate(&mut notary(1, 1), &owner(1), &leaf, 0);
    assert_eq!(certificate(&mut notary(1, 1), &owner(1), &leaf, 0), (one.clone(), until), "made anew after a restart");
    let (two, _) = certificate(&mut notary(1, 1), &owner(2), &leaf, 0);
    let (elsewhere, _) = certificate(&mut notary(2, 1), &owner(1), &leaf, 0);
    // The point of a key on P-256, 64 octets behind its OID and what the bit string begins with.
    let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3, 66, 0, 4];
    let point = |certificate: &[u8]| {
        let at = certificate.windows(oid.len()).position(|part| part == oid).unwrap() + oid.len();
        certificate[at..at + 64].to_vec()
    };
    assert_ne!(point(&one), point(&two));
    assert_ne!(point(&one), point(&elsewhere));
    assert!(has(&one, b"web01") && !has(&two, b"web01"));
    // When it is renewed, its key stays.
    let day = ((until - 1_800_000_000) / 86_400) as u64 + 1;
    let (renewed, later) = certificate(&mut notary(1, 1), &owner(1), &leaf, day);
    assert_eq!((later - until, point(&renewed)), (730 * 86_400, point(&one)));
    assert_ne!(renewed, one);
}

#[test]
fn a_certificate_is_valid_whenever_it_is_looked_at() {
    for days in [1, 30, 90, 730, 3650] {
        for last in 1..20 {
            let leaf = Leaf { days, ..Leaf::default() };
            let (_, until) = certificate(&mut notary(1, 1), &owner(last), &leaf, 0);
            let period = 86_400 * i64::from(days).min(730);
            assert!(until > 1_800_000_000 && until - period <= 1_800_000_000, "{days}: {until}");
        }
    }
    // A clock that was not set makes no difference.
    let mut lost = Notary::new(Identity::new(Secret([1; 16]), "web"), WallClock::default(), 1, 7);
    assert!(lost.config(&secured(Leaf::default()), &owner(1), Instant::ZERO).is_some());
}

#[test]
fn what_a_certificate_says_is_in_it() {
    let leaf = Leaf {
        subject: Name { common_name: "{host}.corp".into(), organization: "Acme".into(), ..Name::default() },
        issuer: Name { common_name: "Acme Issuing".into(), country: "DE".into(), ..Name::default() },
        names: vec!["vpn.example.org".into(), "{address}".into()],
        days: 90,
        ..Leaf::default()
    };
    let (certificate, _) = certificate(&mut notary(1, 1), &owner(9), &leaf, 0);
    for part in [&b"web09.corp"[..], b"Acme", b"Acme Issuing", b"DE", b"vpn.example.org", &[0x87, 4, 192, 0, 2, 9]] {
        assert!(has(&certificate, part), "{part:?}");
    }
}

#[test]
fn handshakes_take_turns() {
    let mut notary = notary(1, 1);
    let start = Instant::from_secs(100);
    let from = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    // Each needs a certificate of its own, which counts for six handshakes.
    let turns: Vec<Option<Instant>> = (0..2000).map(|i| notary.turn(from(i), &owner(i as u8), &own(), start)).collect();
    let at_once = turns.iter().filter(|turn| **turn == Some(start)).count() as u64;
    let later = turns.iter().flatten().count() as u64;
    assert_eq!((at_once, later), (BURST / (1 + MAKING) + 1, (BURST + 2 * RATE) / (1 + MAKING) + 1));
    assert!(turns.iter().flatten().all(|turn| *turn <= start + LONGEST));
    // Once they have passed, there is room again.
    let now = start + LONGEST + Duration::from_secs(1);
    assert_eq!(notary.turn(from(1), &owner(1), &own(), now), Some(now));
}

#[test]
fn what_signs_a_certificate_counts_where_one_is_made() {
    // As many octets as such keys have.
    let [small, large] = [1200, 2350].map(|len| Some(key_of(vec![0; len])));
    let authority = large.clone().map(|key| Given { chain: Vec::new(), key });
    let issuer = Name { common_name: "Acme Issuing".into(), ..Name::default() };
    let of = |key: &Option<GivenKey>, authority: &Option<Given>, issuer: &Name| {
        let (key, authority, issuer) = (key.clone(), authority.clone(), issuer.clone());
        Credentials::Own(Box::new(Leaf { key, authority, issuer, ..Leaf::default() }))
    };
    for (credentials, made, first) in [
        (own(), 1, 6),
        (of(&None, &authority, &Name::default()), 1, 38),
        (of(&small, &authority, &Name::default()), 6, 43),
        (of(&small, &None, &Name::default()), 6, 17),
        (of(&small, &None, &issuer), 6, 11),
        (Credentials::Given(authority.clone().unwrap()), 32, 37),
    ] {
        let mut notary = notary(1, 1);
        for counts in [first, made] {
            let (now, source) = (notary.all.0 + LONGEST, [10, 0, 0, 1].into());
            let before = now - Duration::from_millis(BURST);
            assert_eq!(notary.turn(source, &owner(1), &credentials, now), Some(now));
            assert_eq!(notary.all.0, before + Duration::from_millis(counts), "{credentials:?}");
            notary.config(&secured(Leaf::default()), &owner(1), now).unwrap();
        }
    }
}

#[test]
fn keys_that_were_made_elsewhere_are_loaded_once() {
    let (chain, key) = crate::service::tls::sample(1);
    let given = Given { chain: vec![chain], key: key_of(key) };
    let leaf = Leaf { key: Some(given.key.clone()), ..Leaf::default() };
    let notary = notary(1, 1);
    let [one, two] = [1, 2].map(|last| {
        let owner = owner(last);
        let whose = Whose { identity: &notary.identity, owner: &owner, asked: None };
        let made = super::certificate::make(&notary.provider, &whose, &leaf, 1_800_000_000).unwrap();
        (made.key.key.clone(), given.load(&notary.provider).unwrap().key)
    });
    assert!(Arc::ptr_eq(&one.0, &two.0) && Arc::ptr_eq(&one.1, &two.1));
}

#[test]
fn a_source_does_not_take_all_turns() {
    let mut notary = notary(1, 1);
    let now = Instant::from_secs(100);
    let loud = (0..1000).filter(|_| notary.turn([10, 0, 0, 1].into(), &owner(1), &own(), now).is_some()).count() as u64;
    assert_eq!(loud, (BURST + 2 * RATE_OF_SOURCE) / (1 + MAKING) + 1);
    assert!(notary.turn([10, 0, 0, 2].into(), &owner(1), &own(), now).is_some_and(|at| at < now + LONGEST));
    // All addresses of an IPv6 network are one source.
    let of = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
    let loud = (0..1000).filter(|i| notary.turn(of(*i), &owner(1), &own(), now).is_some()).count() as u64;
    assert!(loud <= (BURST + 2 * RATE_OF_SOURCE) / (1 + MAKING) + 1, "{loud}");
}

#[test]
fn replicas_share_what_a_node_may_do() {
    let mut quarter = notary(1, 4);
    let now = Instant::from_secs(100);
    let from = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    let turns = (0..2000).filter(|i| quarter.turn(from(*i), &owner(1), &own(), now).is_some()).count() as u64;
    assert_eq!(turns, (BURST + 2 * RATE / 4) / (1 + MAKING) + 1);
}

#[test]
fn certificates_that_are_kept_are_bounded() {
    let mut notary = notary(1, 16);
    for last in 0..200u32 {
        let owner = Owner { ip: (0x0a00_0000 + last).to_be_bytes().into(), ..owner(1) };
        notary.config(&secured(Leaf::default()), &owner, Instant::ZERO).unwrap();
    }
    assert_eq!(notary.made.len(), KEPT / 16);
}

#[test]
fn tickets_are_for_the_host_that_gave_them() {
    let identity = Identity::new(Secret([1; 16]), "web");
    let one = Tickets::new(&identity, &owner(1), 300).unwrap();
    let same = Tickets::new(&identity, &owner(1), 300).unwrap();
    let two = Tickets::new(&identity, &owner(2), 300).unwrap();
    let ticket = one.encrypt(b"session").unwrap();
    assert_eq!(same.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    assert_eq!(two.decrypt(&ticket), None);
    for len in 0..ticket.len() {
        assert_eq!(one.decrypt(&ticket[..len]), None);
    }
    for at in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[at] ^= 1;
        assert_eq!(one.decrypt(&forged), None);
    }
    assert_ne!(one.encrypt(b"session"), Some(ticket), "no nonce is used twice");
}
