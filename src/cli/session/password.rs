//! The password of a bundle: from a file, the environment, or whoever sits at the terminal.

use std::env::VarError;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use miette::miette;

/// The variable that it may be in.
const VARIABLE: &str = "HONEYWEAVE_PASSWORD";
/// The option that names a file.
const OPTION: &str = "--password-file";
/// What a process asks its terminal by, wherever its input comes from.
const TERMINAL: &str = "/dev/tty";
/// Octets of a password, and of a file with a key.
const LONGEST: u64 = 4096;

/// What a password is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// For a bundle that will be encrypted: who types it does so twice.
    Export,
    /// For one that is.
    Verify,
}

impl Purpose {
    fn help(self) -> String {
        let plain = if self == Purpose::Export { "; --plain writes it not encrypted" } else { "" };
        format!("{OPTION} FILE gives it by the first line of a file, {VARIABLE} by the environment{plain}")
    }
}

/// The password: that in `file` before that of the environment, before what is typed.
///
/// # Errors
/// Why there is none, and what to do.
pub fn password(file: Option<&Path>, purpose: Purpose) -> miette::Result<String> {
    if let Some(path) = file {
        let of = |why: String| miette!("{OPTION} {}: {why}", path.display());
        let text = beginning(path).map_err(|error| of(format!("it cannot be read: {error}")))?;
        return first_line(&text).map_err(|why| of(why.into()));
    }
    match std::env::var(VARIABLE) {
        Ok(password) if password.is_empty() => Err(miette!(help = purpose.help(), "{VARIABLE} is empty")),
        Ok(password) => Ok(password),
        Err(VarError::NotUnicode(_)) => Err(miette!("{VARIABLE} is no UTF-8")),
        Err(VarError::NotPresent) => typed(purpose),
    }
}

fn typed(purpose: Purpose) -> miette::Result<String> {
    File::options().read(true).write(true).open(TERMINAL).map_err(|error| {
        miette!(
            help = purpose.help(),
            "there is no terminal to ask for the password of the bundle ({TERMINAL}: {error})"
        )
    })?;
    let ask = |what: &str| {
        let asked = rpassword::prompt_password(what);
        asked.map_err(|error| miette!(help = purpose.help(), "cannot ask for the password: {error}"))
    };
    let password = ask("Password of the bundle: ")?;
    if password.is_empty() {
        return Err(miette!(help = purpose.help(), "the password is empty"));
    }
    if purpose == Purpose::Export && ask("Once more: ")? != password {
        return Err(miette!("the two are not the same"));
    }
    Ok(password)
}

/// What the file at `path` begins with, which may be a pipe: no more than is looked at, and an octet.
///
/// # Errors
/// What the system says.
pub fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn first_line(octets: &[u8]) -> Result<String, &'static str> {
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        _ if line.len() as u64 > LONGEST => Err("its first line is longer than 4,096 octets, so it is no password"),
        Ok("") => Err("its first line is empty, and a password is not"),
        Ok(line) => Ok(line.to_owned()),
        Err(_) => Err("its first line is no UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        for text in ["geheim", "geheim\n", "geheim\r\nmore\n"] {
            assert_eq!(first_line(text.as_bytes()), Ok("geheim".into()), "{text:?}");
        }
        // What comes behind it may be anything.
        assert_eq!(first_line(b"geheim\n\xff"), Ok("geheim".into()));
        assert_eq!(first_line(&[&b"p\n"[..], &[b'\xc3'; 4095]].concat()), Ok("p".into()));
        for (octets, why) in [(&b""[..], "empty"), (b"\nx", "empty"), (b"\xff\n", "UTF-8"), (&[b'x'; 4097], "longer")] {
            assert!(first_line(octets).unwrap_err().contains(why), "{why}");
        }
    }

    #[test]
    fn what_is_wrong_with_its_file_names_the_option() {
        let error = password(Some(Path::new("/nowhere/at/all")), Purpose::Verify).unwrap_err();
        assert!(error.to_string().starts_with("--password-file /nowhere/at/all: it cannot be read: "), "{error}");
        assert!(password(Some(Path::new("/")), Purpose::Export).unwrap_err().to_string().contains("Is a directory"));
        assert!(password(Some(Path::new("/dev/null")), Purpose::Export).unwrap_err().to_string().contains("is empty"));
        assert!(password(Some(Path::new("/dev/zero")), Purpose::Verify).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn what_helps_depends_on_what_it_is_for() {
        assert!(Purpose::Export.help().contains("--plain") && !Purpose::Verify.help().contains("--plain"));
    }
}
