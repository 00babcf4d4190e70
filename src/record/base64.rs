//! Base64 of RFC 4648 §4, padded: the form that octets take inside a record.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The base64 text of `data`.
pub fn encode(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * place) & 0x3f) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The octets that `text` stands for; `None` if it is not canonical base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let mut data = Vec::with_capacity(bytes.len() / 4 * 3);
    let last = (bytes.len() / 4).wrapping_sub(1);
    for (number, chunk) in bytes.chunks(4).enumerate() {
        let padding = chunk.iter().rev().take_while(|c| **c == b'=').count();
        if padding > 2 || (padding > 0 && number != last) {
            return None;
        }
        let mut word = 0u32;
        for c in &chunk[..4 - padding] {
            let value = ALPHABET.iter().position(|a| a == c)?;
            word = word << 6 | value as u32;
        }
        word <<= 6 * padding;
        let octets = &word.to_be_bytes()[1..];
        if octets[3 - padding..].iter().any(|o| *o != 0) {
            return None;
        }
        data.extend_from_slice(&octets[..3 - padding]);
    }
    Some(data)
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
