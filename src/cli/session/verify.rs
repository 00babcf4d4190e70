//! `honeyweave session verify`: checking a bundle, whoever had it in hand.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, TypedValueParser};
use miette::miette;
use serde_json::{Value, json};

use super::super::{FAILURE, Target, evidence, status, table};
use super::export::named;
use super::password::{Purpose, password};
use super::{directory, key};
use crate::record::bundle::{self, PublicKey, ReadError, Sealed, Signature, Verified};
use crate::record::{escape, open_regular};

/// What is checked.
#[derive(clap::Args, Debug)]
pub struct Verify {
    /// A bundle
    #[arg(value_parser = PathBufValueParser::new().try_map(named))]
    pub file: PathBuf,
    /// The public key whose signature it must bear [default: that of the honeynet on this machine]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Read the password from the first line of a file, not from the terminal or from HONEYWEAVE_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Of which honeynet the key is
    #[command(flatten)]
    pub target: Target,
    /// Print JSON: one object, whatever is wrong with the bundle
    #[arg(long)]
    pub json: bool,
}

/// Why a bundle is none, or not all of one, and what helps.
type Why = (String, Option<&'static str>);

/// Checks a bundle.
pub fn verify(args: &Verify) -> miette::Result<ExitCode> {
    let shown = args.file.display();
    // What cannot be looked at is neither good nor bad, and that is said before anything is asked for.
    let file = open_regular(&args.file).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "`honeyweave session export ID` writes one",
            io::ErrorKind::PermissionDenied => "a bundle is its owner's alone: use sudo",
            _ => "a bundle is a regular file, as `honeyweave session export ID` writes it",
        };
        miette!(help = help, "{shown}: it cannot be read: {error}")
    })?;
    let sealed = match look(file) {
        Ok(sealed) => sealed,
        Err(why) => return refuse(args, &why),
    };
    let key = key_of(args)?;
    let verified = match sealed {
        Sealed::No(plain) => bundle::verify(plain, &key).map_err(told),
        Sealed::Yes(sealed) => {
            let password = password(args.password_file.as_deref(), Purpose::Verify)?;
            let unsealed = bundle::unseal(sealed, &password).map_err(|why| (why, None));
            unsealed.and_then(|unsealed| bundle::verify(unsealed, &key).map_err(told))
        }
    };
    let verified = match verified {
        Ok(verified) => verified,
        Err(why) => return refuse(args, &why),
    };
    let good = verified.is_good();
    if args.json {
        let told = json!({
            "file": args.file.display().to_string(),
            "ok": good,
            "signature": signature(&verified.signature),
            "mistakes": verified.mistakes,
            "manifest": verified.manifest,
        });
        table::put(&evidence::pretty(&told)?)?;
    } else {
        table::put(&tell(&verified, &key))?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) })
}

fn told(error: ReadError) -> Why {
    (error.to_string(), Some(error.help()))
}

/// How the file begins.
fn look(file: File) -> Result<Sealed<BufReader<File>>, Why> {
    const AGAIN: &str = "copy it once more from where it was exported, and compare the sizes";
    let sealed = Sealed::look(BufReader::with_capacity(256 << 10, file));
    let sealed = sealed.map_err(|error| (error.to_string(), Some(AGAIN)))?;
    // No key is needed to see that something is no bundle.
    if let Sealed::No(plain) = &sealed {
        bundle::check_beginning(plain.get_ref().0.get_ref()).map_err(told)?;
    }
    Ok(sealed)
}

/// Tells why what is there cannot be taken for a bundle.
fn refuse(args: &Verify, (why, help): &Why) -> miette::Result<ExitCode> {
    let why = escape(why).into_owned();
    if args.json {
        let told = json!({
            "file": args.file.display().to_string(),
            "ok": false,
            "signature": Value::Null,
            "mistakes": [why],
            "manifest": Value::Null,
        });
        table::put(&evidence::pretty(&told)?)?;
        return Ok(ExitCode::from(FAILURE));
    }
    let file = args.file.display();
    Err(match help {
        Some(help) => miette!(help = *help, "{file}: {why}"),
        None => miette!("{file}: {why}"),
    })
}

/// The key whose signature it must bear.
fn key_of(args: &Verify) -> miette::Result<PublicKey> {
    if let Some(path) = &args.key {
        return key::read(path);
    }
    let key = directory(&args.target).and_then(|dir| key::of(&dir));
    key.map(|key| key.public()).map_err(|error| {
        miette!(
            help = "--key FILE says whose signature it must bear: the file has what `honeyweave session key` prints where it was exported",
            "there is no key to check {} with: {error}",
            args.file.display()
        )
    })
}

fn signature(signature: &Signature) -> &str {
    match signature {
        Signature::Good => "good",
        Signature::Bad => "bad",
        Signature::OtherKey(_) => "of another key",
        Signature::Missing => "missing",
    }
}

fn tell(verified: &Verified, key: &PublicKey) -> String {
    let manifest = &verified.manifest;
    let mut text = String::new();
    match &verified.signature {
        Signature::Good => {}
        Signature::Bad => text += "the signature is not that of the key: manifest or signature were changed\n",
        Signature::OtherKey(other) => {
            text +=
                &format!("it says that it is signed with the key {other}, and this is the key {}\n", key.fingerprint());
        }
        Signature::Missing => text += "it is not signed\n",
    }
    text.extend(verified.mistakes.iter().map(|mistake| format!("{}\n", escape(mistake))));
    if text.is_empty() {
        text = format!(
            "ok: session {} of honeynet {}, made {}: {} members with {} octets, signed with the key {}\n",
            escape(&manifest.session),
            escape(&manifest.honeynet),
            manifest.made,
            manifest.members.len(),
            status::count(verified.octets),
            key.fingerprint()
        );
    }
    text
}
