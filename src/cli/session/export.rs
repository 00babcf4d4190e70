//! `honeyweave session export`, `verify` and `key`: bundles, and the key that vouches for them.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, TypedValueParser};
use miette::miette;
use serde_json::json;

use super::super::{FAILURE, Target, evidence, harmless, remark, status, table};
use super::late::Late;
use super::{Which, directory, show};
use crate::event::Utc;
use crate::record::bundle::{
    self, ENDING, ExportError, Job, Key, KeyError, PublicKey, ReadError, SEALED, Sealed, Signature, Verified, WORK,
};
use crate::record::{escape, open_regular};
use crate::sys::{clock, privileges};

/// The variable that a password may be in.
const PASSWORD: &str = "HONEYWEAVE_PASSWORD";
/// Octets of a file with a password, and of one with a key.
const LONGEST: u64 = 4096;

/// How a session is exported.
#[derive(clap::Args, Debug)]
pub struct Export {
    /// Which session
    #[command(flatten)]
    pub which: Which,
    /// Where the bundle goes [default: ID.tar.zst.age, or ID.tar.zst with --plain, in the current directory]
    #[arg(short, long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(named))]
    pub output: Option<PathBuf>,
    /// Do not encrypt it
    #[arg(long, conflicts_with = "password_file")]
    pub plain: bool,
    /// Read the password from the first line of a file, not from the terminal or from HONEYWEAVE_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Print JSON: the manifest
    #[arg(long)]
    pub json: bool,
}

/// A bundle is a file: elsewhere a hyphen stands for what comes or goes by a pipe, and would be taken for that here.
fn named(path: PathBuf) -> Result<PathBuf, &'static str> {
    match path.as_os_str().as_encoded_bytes() {
        b"-" => Err("a bundle is a file, not a pipe: name it (one that is called so is ./-)"),
        _ => Ok(path),
    }
}

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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Writes the bundle of a session.
pub fn export(args: &Export) -> miette::Result<ExitCode> {
    // Captures stay open while they are read twice.
    privileges::raise_descriptors();
    let dir = directory(&args.which.target)?;
    let key = key_of(&dir)?;
    let password = if args.plain { None } else { Some(password(args.password_file.as_deref(), true)?) };
    let id = args.which.id;
    let ending = if args.plain { "" } else { SEALED };
    let path = args.output.clone().unwrap_or_else(|| format!("{id}{ENDING}{ending}").into());
    let scratch = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let honeynet = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let now = Utc::from_micros(clock::realtime_micros());
    let job = Job { dir: &dir, honeynet: &honeynet, session: id, key: &key, scratch, now };
    let file = Late::create(&path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::AlreadyExists => "nothing is written over: say another name with -o FILE, or move that one",
            _ => "say where it is to go with -o FILE",
        };
        miette!(help = help, "cannot create {}: {error}", path.display())
    })?;
    let manifest = write(&job, file, password.as_deref()).map_err(|error| match error {
        ExportError::Unknown(id) => show::unknown(id),
        error => miette!("{}", escape(&error.to_string())),
    })?;
    if args.json {
        table::put(&evidence::pretty(&manifest)?)?;
    } else {
        let octets: u64 = manifest.members.iter().map(|member| member.octets).sum();
        let members = manifest.members.len();
        let how = if args.plain { "not encrypted" } else { "encrypted" };
        let octets = status::count(octets);
        let size = path.metadata().map_or_else(|_| "?".to_owned(), |about| status::count(about.len()));
        let file = path.to_string_lossy();
        let what = format!("{members} members with {octets} octets, {how}, in a file of {size}");
        table::put(&format!("{}: {what}\n", harmless(&file)))?;
        for left_out in &manifest.left_out {
            remark(&format!("not in it: {}", escape(left_out)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(job: &Job<'_>, late: Late, password: Option<&str>) -> Result<bundle::Manifest, ExportError> {
    let failed = |source| ExportError::Io { what: "write", path: "the bundle".into(), source };
    let file = BufWriter::with_capacity(256 << 10, late.file().map_err(failed)?);
    let (file, manifest) = match password {
        None => bundle::export(job, || Ok(file))?,
        Some(password) => {
            let (sealed, manifest) = bundle::export(job, || bundle::seal(file, password, WORK))?;
            (sealed.finish().map_err(failed)?, manifest)
        }
    };
    file.into_inner().map_err(|error| failed(error.into_error()))?;
    late.finish().map_err(failed)?;
    Ok(manifest)
}

/// Checks a bundle.
pub fn verify(args: &Verify) -> miette::Result<ExitCode> {
    let key = match &args.key {
        Some(path) => read_key(path)?,
        None => {
            let dir = directory(&args.target);
            let dir = dir.map_err(|error| miette!(help = "--key FILE says whose signature it must bear", "{error}"))?;
            key_of(&dir)?.public()
        }
    };
    let verified = open(&args.file, args.password_file.as_deref(), &key);
    let verified = verified.map_err(|(why, help)| {
        let (why, file) = (escape(&why).into_owned(), args.file.display());
        help.map_or_else(|| miette!("{file}: {why}"), |help| miette!(help = help, "{file}: {why}"))
    })?;
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

/// Why a bundle cannot be checked, and what helps.
type Why = (String, Option<&'static str>);

fn open(path: &Path, password_file: Option<&Path>, key: &PublicKey) -> Result<Verified, Why> {
    const AGAIN: &str = "copy it once more from where it was exported, and compare the sizes";
    let file = open_regular(path).map_err(|error| {
        let help = (error.kind() == io::ErrorKind::NotFound).then_some("`honeyweave session export ID` writes one");
        (format!("it cannot be read: {error}"), help)
    })?;
    let file = io::BufReader::with_capacity(256 << 10, file);
    let told = |error: ReadError| (error.to_string(), Some(error.help()));
    match Sealed::look(file).map_err(|error| (error.to_string(), Some(AGAIN)))? {
        Sealed::No(plain) => bundle::verify(plain, key).map_err(told),
        Sealed::Yes(sealed) => {
            let password = password(password_file, false).map_err(|error| (error.to_string(), None))?;
            bundle::verify(bundle::unseal(sealed, &password).map_err(|why| (why, None))?, key).map_err(told)
        }
    }
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

/// Prints the public key of a honeynet.
pub fn key(target: &Target) -> miette::Result<ExitCode> {
    let key = key_of(&directory(target)?)?.public();
    table::put(&key.pem())?;
    Ok(ExitCode::SUCCESS)
}

fn key_of(dir: &Path) -> miette::Result<Key> {
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

fn read_key(path: &Path) -> miette::Result<PublicKey> {
    let text = first(path).map_err(|error| miette!("cannot read {}: {error}", path.display()))?;
    PublicKey::from_pem(&text)
        .map_err(|error| miette!(help = "`honeyweave session key` prints one", "{}: {error}", path.display()))
}

fn first(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// The password: from a file, the environment, or whoever sits at the terminal, who types a new one twice.
fn password(file: Option<&Path>, is_new: bool) -> miette::Result<String> {
    let password = match (file, std::env::var(PASSWORD)) {
        (Some(path), _) => {
            let text = first(path).map_err(|error| miette!("cannot read {}: {error}", path.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        (None, Ok(password)) => password,
        (None, Err(_)) => {
            let ask = |what: &str| {
                rpassword::prompt_password(what).map_err(|error| {
                    let help = format!("--password-file FILE or {PASSWORD} say it; an export can be --plain");
                    miette!(help = help, "cannot ask for the password: {error}")
                })
            };
            let password = ask("Password of the bundle: ")?;
            if is_new && ask("Once more: ")? != password {
                return Err(miette!("the two are not the same"));
            }
            password
        }
    };
    if password.is_empty() { Err(miette!("the password is empty")) } else { Ok(password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hyphen_is_no_file() {
        assert!(named("-".into()).unwrap_err().contains("./-"));
        for path in ["./-", "x.tar.zst", "--"] {
            assert_eq!(named(path.into()), Ok(path.into()));
        }
    }
}
