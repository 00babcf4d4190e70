//! `honeyweave session key`: the key that vouches for bundles.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use miette::miette;
use serde_json::json;

use super::super::{Target, evidence, table};
use super::directory;
use super::password::beginning;
use crate::record::bundle::{Key, KeyError, PublicKey};

/// Which key is told.
#[derive(clap::Args, Debug)]
pub struct OfKey {
    /// Of which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Print JSON: whose it is, its algorithm, the key, and what it is known by
    #[arg(long)]
    pub json: bool,
}

/// Prints the public key of a honeynet.
pub fn tell(args: &OfKey) -> miette::Result<ExitCode> {
    let dir = directory(&args.target)?;
    let key = of(&dir)?.public();
    if !args.json {
        table::put(&key.pem())?;
        return Ok(ExitCode::SUCCESS);
    }
    let told = json!({
        "honeynet": dir.file_name().map(|name| name.to_string_lossy()),
        "directory": dir.display().to_string(),
        "algorithm": "Ed25519",
        "pem": key.pem(),
        "fingerprint": key.fingerprint(),
        "sha256": key.der_sha256(),
    });
    table::put(&evidence::pretty(&told)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The key of the honeynet in `dir`.
///
/// # Errors
/// If it has none, or who asks may not read it.
pub fn of(dir: &Path) -> miette::Result<Key> {
    Key::open(dir).map_err(|error| match error {
        KeyError::Io(error) if error.kind() == io::ErrorKind::NotFound => miette!(
            help = "the console makes it when the honeynet is started",
            "the honeynet in {} has no key yet",
            dir.display()
        ),
        KeyError::Io(error) => {
            miette!(help = "the key is for root's eyes: use sudo", "cannot read the key in {}: {error}", dir.display())
        }
        KeyError::NoKey => miette!("the key in {} is damaged", dir.display()),
    })
}

/// The public key in the file that `--key` names.
///
/// # Errors
/// If there is none in it.
pub fn read(path: &Path) -> miette::Result<PublicKey> {
    const HELP: &str = "`honeyweave session key`, where the bundle was exported, prints what goes into it";
    let of = |why: String| miette!(help = HELP, "--key {}: {why}", path.display());
    let octets = beginning(path).map_err(|error| of(format!("it cannot be read: {error}")))?;
    PublicKey::from_pem(&String::from_utf8_lossy(&octets)).map_err(|error| of(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_its_file_names_the_option() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let error = read(&file).unwrap_err();
        assert!(error.to_string().starts_with(&format!("--key {}: it cannot be read", file.display())), "{error}");
        for octets in [&b""[..], b"\xff", b"-----BEGIN PUBLIC KEY-----", &[b'x'; 10_000]] {
            std::fs::write(&file, octets).unwrap();
            let error = read(&file).unwrap_err();
            assert!(error.to_string().ends_with(": it is no Ed25519 key"), "{error}");
            assert!(error.help().unwrap().to_string().contains("session key"));
        }
    }
}
