//! Base64 of RFC 4648 §4, padded: the form that octets take inside a record.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The base64 text of `data`.
pub fn encode(data: &[u8]) -> String {
    BASE64_STANDARD.encode(data)
}

/// The octets that `text` stands for; `None` if it is not canonical base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for bad in ["Z", "Zg=", "Zh==", "Zg==Zg==", "====", "Z===", "Zm9\u{e9}", "Zm 9"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn round_trips(data: Vec<u8>) {
            proptest::prop_assert_eq!(decode(&encode(&data)), Some(data));
        }
    }
}
