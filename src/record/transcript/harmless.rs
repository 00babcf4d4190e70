//! What a replay may show: of an attacker's output only what draws within the screen.
//!
//! | passes | |
//! |---|---|
//! | characters | those that a terminal shows and does nothing else ([`is_harmless`]); others are `?` |
//! | controls | line feed, carriage return, backspace, tab |
//! | `CSI` ... `m` | colors and attributes, but for blinking and what is concealed |
//! | `CSI` ... `A` to `H`, `d`, `f` | moves of the cursor, by or to at most 999 |
//! | `CSI` ... `J` (0 to 2), `K`, `L`, `M`, `P`, `X`, `@` | erasing and shifting what is on the screen |
//!
//! All else is left out: strings for the system, the device or applications (titles, clipboards, links, images, key
//! bindings), queries that a terminal would answer as if typed, modes (mouse reports, alternate screens, keypads),
//! character sets, what is kept beyond the screen, and the bell.

use vte::{Params, Parser, Perform};

use crate::record::is_harmless;

/// The furthest that a cursor is moved.
const FAR: u16 = 999;
/// Parameters of one sequence.
const PARAMS: usize = 16;

/// Makes output harmless.
pub struct Harmless {
    parser: Parser,
    drawn: Drawn,
}

struct Drawn {
    text: String,
    colors: bool,
}

impl Default for Harmless {
    fn default() -> Harmless {
        Harmless { parser: Parser::new(), drawn: Drawn { text: String::new(), colors: true } }
    }
}

impl Harmless {
    /// One that leaves out colors and attributes, too.
    pub fn without_colors() -> Harmless {
        Harmless { parser: Parser::new(), drawn: Drawn { text: String::new(), colors: false } }
    }

    /// What a terminal may be given in place of `output`.
    pub fn push(&mut self, output: &str) -> String {
        self.parser.advance(&mut self.drawn, output.as_bytes());
        std::mem::take(&mut self.drawn.text)
    }
}

/// Parameters of colors: those of an attribute that hides text, or makes it blink, go.
fn colors(params: &Params) -> Vec<u16> {
    let mut given = params.iter().take(PARAMS).flatten().copied();
    let mut kept = Vec::new();
    while let Some(param) = given.next() {
        match param {
            5 | 6 | 8 => {}
            // The next ones belong to it: a color of 256, or three of 256.
            38 | 48 | 58 => {
                let how = given.next();
                let count = match how {
                    Some(5) => 1,
                    Some(2) => 3,
                    _ => break,
                };
                let rest: Vec<u16> = given.by_ref().take(count).map(|part| part.min(255)).collect();
                if rest.len() < count {
                    break;
                }
                kept.extend([param].into_iter().chain(how).chain(rest));
            }
            0..=107 => kept.push(param),
            _ => {}
        }
    }
    kept
}

impl Perform for Drawn {
    fn print(&mut self, c: char) {
        let shown = if is_harmless(c) || c == char::REPLACEMENT_CHARACTER { c } else { '?' };
        self.text.push(shown);
    }

    fn execute(&mut self, octet: u8) {
        if matches!(octet, b'\n' | b'\r' | 0x08 | b'\t') {
            self.text.push(char::from(octet));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let numbers: Vec<u16> = match action {
            'm' if !self.colors => return,
            'm' => {
                let colors = colors(params);
                // Nothing left of something is not the same as nothing, which is a reset.
                if colors.is_empty() && !params.is_empty() {
                    return;
                }
                colors
            }
            'J' | 'K' if params.iter().flatten().all(|param| *param <= 2) => {
                params.iter().take(1).flatten().copied().collect()
            }
            'A'..='H' | 'd' | 'f' | 'L' | 'M' | 'P' | 'X' | '@' => {
                params.iter().take(2).flatten().take(2).map(|param| (*param).min(FAR)).collect()
            }
            _ => return,
        };
        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
        self.text += &format!("\u{1b}[{}{action}", numbers.join(";"));
    }
}
