//! What decrypts a connection.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use rustls::KeyLog;

use crate::relay::tape::Entry;
use crate::wire::hex;

/// Octets of lines that are kept until somebody takes them. A handshake has five lines of 180 at most.
const MOST: usize = 4 * 1024;

/// The secrets of one connection, as lines of the format of NSS
/// (<https://nss-crypto.org/reference/security/nss/legacy/key_log_format/index.html>).
#[derive(Default)]
pub(super) struct Secrets(Mutex<String>);

impl Secrets {
    /// Those that came since the last time, if any did.
    pub(super) fn take(&self) -> Option<Entry> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!lines.is_empty()).then_some(Entry::TlsSecrets { lines })
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MOST {
            // Writing into a string does not fail.
            let _ = writeln!(lines, "{label} {} {}", hex(client_random), hex(secret));
        }
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}
