//! Encryption of a bundle with a password, in the format of age.
//!
//! The password becomes a key by scrypt, which costs whoever guesses 256 MiB and most of a second for each guess; the
//! rest is ChaCha20-Poly1305 in pieces of 64 KiB, none of which is given on before it is proven whole.

use std::io::{self, Read, Write};

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt};

/// The base-2 logarithm of what a guess costs: the same that `age` itself uses.
pub const WORK: u8 = 18;
/// What is paid at most to open a file that somebody else made: 1 GiB.
const MOST_WORK: u8 = 20;
/// How an encrypted file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1";
/// Octets of the part that tells how it is encrypted; ours has 200.
const HEADER: u64 = 64 << 10;

/// A file, encrypted or not, of which the beginning was read.
pub enum Sealed<R> {
    /// It is encrypted.
    Yes(io::Chain<io::Cursor<Vec<u8>>, R>),
    /// It is not.
    No(io::Chain<io::Cursor<Vec<u8>>, R>),
}

impl<R: Read> Sealed<R> {
    /// Looks how `reader` begins.
    ///
    /// # Errors
    /// If it cannot be read, or begins as if encrypted and goes on otherwise.
    pub fn look(mut reader: R) -> io::Result<Sealed<R>> {
        let mut begin = Vec::new();
        (&mut reader).take(HEADER).read_to_end(&mut begin)?;
        if !begin.starts_with(MAGIC) {
            return Ok(Sealed::No(io::Cursor::new(begin).chain(reader)));
        }
        if (begin.len() as u64) < HEADER && !begin.windows(4).any(|part| part == b"\n---") {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is cut off: it ends where it tells how it is encrypted",
            ));
        }
        // Whoever made it might have it go on for ever.
        if !begin.windows(4).any(|part| part == b"\n---") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its encryption is told longer than any we know"));
        }
        Ok(Sealed::Yes(io::Cursor::new(begin).chain(reader)))
    }
}

/// Encrypts with `password` what is written. The end has to be told by [`StreamWriter::finish`]. `work` is [`WORK`]
/// but in tests.
///
/// # Errors
/// If `out` takes nothing.
pub fn seal<W: Write>(out: W, password: &str, work: u8) -> io::Result<StreamWriter<W>> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(password.to_owned()));
    recipient.set_work_factor(work);
    let encryptor =
        Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(io::Error::other)?;
    encryptor.wrap_output(out)
}

/// Decrypts with `password` what is read from a file that is [`Sealed::Yes`].
///
/// # Errors
/// Why it cannot be, in words.
pub fn open<R: Read>(sealed: R, password: &str) -> Result<StreamReader<R>, String> {
    let decryptor = Decryptor::new(sealed).map_err(|error| told(&error))?;
    if !decryptor.is_scrypt() {
        return Err("it is encrypted for a key, not with a password: decrypt it with age first".into());
    }
    let mut identity = scrypt::Identity::new(SecretString::from(password.to_owned()));
    identity.set_max_work_factor(MOST_WORK);
    decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|error| told(&error))
}

fn told(error: &DecryptError) -> String {
    match error {
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            "the password is another".into()
        }
        DecryptError::ExcessiveWork { .. } => "its password takes more than 1 GiB of memory to check".into(),
        DecryptError::Io(error) => format!("it cannot be read: {error}"),
        _ => "it is damaged where it tells how it is encrypted".into(),
    }
}
