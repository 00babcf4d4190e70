//! Fields as RFC 7541 has them in appendix C, and such as nobody should send.

use proptest::prelude::*;

use super::hpack::Decoder;
use super::huffman;

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    decoder.decode(block, |name, value| fields.push(format!("{}: {}", text(name), text(value))))?;
    Ok(fields)
}

/// Reads heads one after another with tables of so many octets, each with what it takes of the table then.
#[track_caller]
fn check(most: usize, heads: &[(&str, &[&str], usize)]) {
    let mut decoder = Decoder::default();
    if most != 4096 {
        // As the examples are of a table that was agreed on before.
        let resize = [0x3f, (most - 31) as u8 | 0x80, ((most - 31) >> 7) as u8];
        assert_eq!(read(&mut decoder, &resize), Ok(vec![]));
    }
    for (block, fields, size) in heads {
        assert_eq!(read(&mut decoder, &hex(block)).unwrap(), *fields);
        assert_eq!(decoder.size(), (*size, most));
    }
}

#[test]
fn single_fields() {
    // C.2
    check(
        4096,
        &[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", &["custom-key: custom-header"], 55)],
    );
    check(4096, &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)]);
    check(4096, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"], 0)]);
    check(4096, &[("82", &[":method: GET"], 0)]);
}

const FIRST: &[&str] = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const SECOND: &[&str] =
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"];
const THIRD: &[&str] = &[
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
];

#[test]
fn requests_that_follow_each_other() {
    // C.3
    check(
        4096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
            ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
            ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
        ],
    );
    // C.4
    check(
        4096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
        ],
    );
}

const DATES: [&str; 2] = ["date: Mon, 21 Oct 2013 20:13:21 GMT", "date: Mon, 21 Oct 2013 20:13:22 GMT"];
const COOKIE: &str = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

#[test]
fn answers_that_follow_each_other_in_a_small_table() {
    let private = "cache-control: private";
    let location = "location: https://www.example.com";
    let first = [":status: 302", private, DATES[0], location];
    let second = [":status: 307", private, DATES[0], location];
    let third = [":status: 200", private, DATES[1], location, "content-encoding: gzip", COOKIE];
    // C.5
    check(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
                 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                &first,
                222,
            ),
            ("4803 3330 37c1 c0bf", &second, 222),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
                 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
                 2076 6572 7369 6f6e 3d31",
                &third,
                215,
            ),
        ],
    );
    // C.6
    check(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
                 8f0b 97c8 e9ae 82ae 43d3",
                &first,
                222,
            ),
            ("4883 640e ffc1 c0bf", &second, 222),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
                 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                &third,
                215,
            ),
        ],
    );
}

/// What `octets` are in the code of appendix B, by the code itself: every string is tried sign by sign.
fn coded(octets: &[u8]) -> Vec<u8> {
    let (mut bits, mut coded) = (Vec::new(), Vec::new());
    for octet in octets {
        bits.extend(huffman::bits(*octet));
    }
    while bits.len() % 8 != 0 {
        bits.push(true);
    }
    for octet in bits.chunks(8) {
        coded.push(octet.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit)));
    }
    coded
}

#[test]
fn every_octet_has_a_code() {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    assert_eq!(huffman::decode(&coded(&all)).unwrap(), all);
    // Some of the longest, as the appendix has them.
    assert_eq!(coded(b"\n"), [0xff, 0xff, 0xff, 0xf3]);
    assert_eq!(coded(b"\xff"), [0xff, 0xff, 0xfb, 0xbf]);
    assert_eq!(coded(b"\\0"), [0xff, 0xfe, 0x00]);
    assert_eq!(huffman::decode(b""), Some(vec![]));
    // Filled with zeros, with a whole octet, and with the end of all.
    for wrong in [&[0x00][..], &[0x07, 0xff, 0xff], &[0xff], &[0xff, 0xff, 0xff, 0xff], &[0xff; 64]] {
        assert_eq!(huffman::decode(wrong), None, "{wrong:x?}");
    }
}

#[test]
fn what_is_wrong_is_given_up() {
    let refused = |block: &str| read(&mut Decoder::default(), &hex(block)).unwrap_err();
    assert_eq!(refused("80"), "a field without a number");
    assert_eq!(refused("be"), "a field that nobody has told");
    assert_eq!(refused("7e 01 61"), "a field that nobody has told");
    assert_eq!(refused("ff"), "a field that is cut");
    assert_eq!(refused("ff ff ff ff ff ff"), "a number that is too large");
    assert_eq!(refused("00"), "a field that is cut");
    assert_eq!(refused("00 05 61 62"), "a string that is cut");
    assert_eq!(refused("00 01 61 82 ff ff"), "a string in no code");
    // One octet more than 4096.
    assert_eq!(refused("3f e2 1f"), "a table of more octets than were agreed on");
    assert_eq!(read(&mut Decoder::default(), &hex("3f e1 1f 20 82")).unwrap(), [":method: GET"]);
}

#[test]
fn a_table_is_no_larger_than_is_kept() {
    let mut decoder = Decoder::default();
    decoder.allow(1 << 20);
    // 65,536, then one more.
    assert_eq!(read(&mut decoder, &hex("3f e1 ff 03")), Ok(vec![]));
    assert_eq!(decoder.size(), (0, 65_536));
    assert_eq!(read(&mut decoder, &hex("3f e2 ff 03")), Err("a table that is too large"));
    // Who is allowed less later may have read that already, or not.
    decoder.allow(0);
    assert_eq!(read(&mut decoder, &hex("3f e1 ff 03")), Ok(vec![]));
    // Many that are told stay within it.
    for number in 0..5000 {
        read(&mut decoder, format!("\x40\x04{number:04}\x01x").as_bytes()).unwrap();
        assert!(decoder.size().0 <= 65_536);
    }
    // None, and one that is too large for it, which empties it.
    read(&mut decoder, b"\x20\x40\x01a\x01b").unwrap();
    assert_eq!(decoder.size(), (0, 0));
    read(&mut decoder, b"\x3f\x09\x40\x01a\x01b").unwrap();
    assert_eq!(decoder.size(), (34, 40));
    read(&mut decoder, b"\x40\x01a\x0812345678").unwrap();
    assert_eq!(decoder.size(), (0, 40));
}

#[test]
fn a_few_octets_do_not_become_many() {
    let mut decoder = Decoder::default();
    let value = [b'x'; 4000];
    let mut block = b"\x40\x01a\x7f\xa1\x1e".to_vec();
    block.extend(value);
    read(&mut decoder, &block).unwrap();
    let mut told = 0;
    let flood = [0xbe; 65_536];
    let end = decoder.decode(&flood, |name, value| told += name.len() + value.len());
    assert_eq!(end, Err("a head of too many octets"));
    assert!(told <= 256 << 10, "{told}");
}

proptest! {
    #[test]
    fn strings_are_what_they_were(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(huffman::decode(&coded(&octets)), Some(octets));
    }

    #[test]
    fn whatever_comes_is_no_harm(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = read(&mut decoder, &block);
            let (size, most) = decoder.size();
            prop_assert!(size <= most && most <= 4096);
        }
    }
}
