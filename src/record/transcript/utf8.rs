//! UTF-8 that comes in pieces.

/// Makes text of pieces: a character that is cut in two is whole when its rest comes, and what is no UTF-8 becomes
/// U+FFFD, as [`String::from_utf8_lossy`] has it of all pieces together.
#[derive(Clone, Default, Debug)]
pub struct Utf8Pieces {
    /// The beginning of a character, at most three octets of it.
    tail: Vec<u8>,
}

impl Utf8Pieces {
    /// Appends to `text` what `octets` are, after those that came before.
    pub fn push(&mut self, octets: &[u8], text: &mut String) {
        let joined;
        let mut rest = if self.tail.is_empty() {
            octets
        } else {
            self.tail.extend_from_slice(octets);
            joined = std::mem::take(&mut self.tail);
            &joined[..]
        };
        loop {
            let (valid, after) = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    (valid, error.error_len().map(|len| &after[len..]).ok_or(after))
                }
            };
            text.push_str(std::str::from_utf8(valid).unwrap_or_default());
            match after {
                Ok(after) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = after;
                }
                Err(begun) => {
                    self.tail = begun.to_vec();
                    return;
                }
            }
        }
    }

    /// Nothing more comes: a character that was only begun is none.
    pub fn finish(&mut self, text: &mut String) {
        if !std::mem::take(&mut self.tail).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
