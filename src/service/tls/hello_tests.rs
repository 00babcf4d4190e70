use proptest::prelude::*;

use super::*;

fn list(numbers: &[u16]) -> Vec<u8> {
    let octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    [&(octets.len() as u16).to_be_bytes()[..], &octets].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// A handshake message, without records.
fn message(version: u16, ciphers: &[u16], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&list(ciphers));
    body.extend_from_slice(&[1, 0]);
    if !extensions.is_empty() {
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(&extensions);
    }
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message[0] = 1;
    message.extend_from_slice(&body);
    message
}

/// `message` in records of at most `size` octets.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes(), fragment].concat();
    message.chunks(size).flat_map(record).collect()
}

fn hello(bytes: &[u8]) -> ClientHello {
    match first(bytes) {
        First::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

/// The example of FoxIO's specification of JA4, with GREASE in every list.
fn example() -> Vec<u8> {
    let ciphers = [
        0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
        0x002f, 0x0035,
    ];
    let signatures = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];
    let name = [&[0, 14, 0, 0, 11][..], b"example.com"].concat();
    let extensions = [
        extension(0x4a4a, &[]),
        extension(0x001b, &[2, 0, 2]),
        extension(0, &name),
        extension(0x0033, &[0, 0]),
        extension(0x0010, &[&[0, 12, 2][..], b"h2", &[8], b"http/1.1"].concat()),
        extension(0x4469, &[]),
        extension(0x0017, &[]),
        extension(0x002d, &[1, 1]),
        extension(0x000d, &list(&signatures)),
        extension(0x0005, &[1, 0, 0, 0, 0]),
        extension(0x0023, &[]),
        extension(0x0012, &[]),
        extension(0x002b, &[6, 0x5a, 0x5a, 3, 4, 3, 3]),
        extension(0xff01, &[0]),
        extension(0x000b, &[1, 0]),
        extension(0x000a, &list(&[0x6a6a, 0x001d, 0x0017, 0x0018])),
        extension(0x0015, &[0; 9]),
    ];
    message(0x0303, &ciphers, &extensions)
}

#[test]
fn ja4_is_what_its_specification_computes() {
    let hello = hello(&records(&example(), 16_384));
    assert_eq!(hello.ja4(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(hello.sni.as_deref(), Some(&b"example.com"[..]));
    let mut told = String::new();
    hello.write(&mut |id, data| {
        assert_eq!(id, EventId::TlsHello);
        told = String::from_utf8(data.to_vec()).unwrap();
    });
    let ja3 = hello.ja3();
    assert_eq!(
        told,
        format!(
            r#"{{"sni":"example.com","alpn":["h2","http/1.1"],"ja3":"{ja3}","ja4":"t13d1516h2_8daaf6152771_e5627efa2ab1"}}"#
        )
    );
}

#[test]
fn ja3_is_what_its_specification_computes() {
    let ciphers = [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4];
    let extensions = [
        extension(0, &[]),
        extension(10, &list(&[0x1a1a, 23, 24, 25])),
        extension(11, &[1, 0]),
        extension(0x2a2a, &[]),
    ];
    let with = message(769, &ciphers, &extensions);
    assert_eq!(hello(&records(&with, 100)).ja3(), "ada70206e40642a3e4461f35503241d5");
    let without = message(769, &[4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99], &[]);
    let bare = hello(&records(&without, 100));
    assert_eq!(bare.ja3(), "de350869b8c85de67a350c8d186f11e6");
    assert!(bare.ja4().starts_with("t10i110000_") && bare.ja4().ends_with("_000000000000"), "{}", bare.ja4());
}

#[test]
fn protocols_that_are_no_letters_are_shown_in_hexadecimal() {
    let of = |name: &[u8]| ClientHello { alpn: vec![name.to_vec()], ..ClientHello::default() }.ja4_alpn();
    assert_eq!(
        [of(b"h2"), of(b"x"), of(b"\xab\xcd"), of(b"\xab"), of(b"0\xab"), of(b"")],
        ["h2", "xx", "ad", "ab", "3b", "00"]
    );
}

#[test]
fn a_hello_may_lie_in_many_records_and_come_octet_by_octet() {
    let whole = hello(&records(&example(), 16_384));
    for size in [1000, 100, 10] {
        let bytes = records(&example(), size);
        assert_eq!(hello(&bytes), whole);
        for len in 0..bytes.len() {
            assert_eq!(first(&bytes[..len]), First::Part, "{len} of {size}");
        }
    }
    // A record for nearly every octet is no client's way.
    assert_eq!(first(&records(&example(), 2)), First::Broken);
}

#[test]
fn what_is_no_hello_is_told_apart() {
    assert_eq!(first(b""), First::Part);
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x80\x2e\x01", b"\x16\x02", b"\0"] {
        assert_eq!(first(other), First::Other, "{other:?}");
    }
    for broken in [
        &[22, 3, 1, 0, 0][..],
        &[22, 3, 1, 255, 255],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[22, 3, 3, 0, 1, 1, 23, 3, 3, 0, 1, 0],
    ] {
        assert_eq!(first(broken), First::Broken, "{broken:?}");
    }
    let mut long = records(&example(), 16_384);
    long[6] = 1;
    assert_eq!(first(&long), First::Broken, "longer than is waited for");
    let cut = message(0x0303, &[1], &[extension(0, &[0; 4])]);
    for len in 4..cut.len() {
        let mut short = cut[..len].to_vec();
        short[1..4].copy_from_slice(&((len - 4) as u32).to_be_bytes()[1..]);
        let ends_before_extensions = len == cut.len() - 10;
        assert_eq!(first(&records(&short, 100)) == First::Broken, !ends_before_extensions, "{len}");
    }
}

#[test]
fn what_is_told_fits_and_is_printable() {
    let nasty =
        ClientHello { sni: Some(vec![b'"'; 300]), alpn: vec![vec![0x1b; 255]; MAX_ALPN], ..ClientHello::default() };
    let mut told = Vec::new();
    nasty.write(&mut |_, data| told = data.to_vec());
    assert!(told.iter().all(|octet| (b' '..=b'~').contains(octet)) && told.ends_with(b"}"));
    let value: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(value["alpn"].as_array().unwrap().len(), MAX_ALPN);
}

proptest! {
    #[test]
    fn whatever_comes_is_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        first(&bytes);
    }

    #[test]
    fn a_hello_with_anything_in_it_is_looked_at(at in 0usize..300, octets in prop::collection::vec(any::<u8>(), 1..8)) {
        let mut bytes = records(&example(), 16_384);
        let at = at.min(bytes.len() - octets.len());
        bytes[at..at + octets.len()].copy_from_slice(&octets);
        if let First::Hello(hello) = first(&bytes) {
            hello.write(&mut |_, data| assert!(data.len() <= crate::event::MAX_DATA));
        }
    }
}
