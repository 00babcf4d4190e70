//! JSON that is ASCII whatever it says.

/// The same JSON with whatever is not printable ASCII as escapes (RFC 8259 §7).
pub(in crate::record) fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            text.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_says_the_same() {
        let value = serde_json::json!("a\\ \u{7f}\u{e4}\u{1f600}");
        let text = super::ascii(&value.to_string());
        assert_eq!(text, r#""a\\ \u007f\u00e4\ud83d\ude00""#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
