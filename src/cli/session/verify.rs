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
use crate::record::bundle::{self, Manifest, PublicKey, ReadError, Sealed, Signature, Verified};
use crate::record::{escape, open_regular};

/// What is checked.
#[derive(clap::Args, Debug)]
pub struct Verify {
    /// A bundle
    #[arg(value_parser = PathBufValueParser::new().try_map(named))]
    pub file: PathBuf,
    /// The public key whose signature it must bear [default: that of the honeynet on this machine; of several that of the one
    /// whose name the bundle has]
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
    let keys = keys_of(args)?;
    let choose = |manifest: &Manifest| keys.of(manifest);
    let verified = match sealed {
        Sealed::No(plain) => Ok(bundle::verify_by(plain, choose)),
        Sealed::Yes(sealed) => {
            let password = password(args.password_file.as_deref(), Purpose::Verify)?;
            let unsealed = bundle::unseal(sealed, &password).map_err(|why| (why, None));
            unsealed.map(|unsealed| bundle::verify_by(unsealed, choose))
        }
    };
    let verified = match verified {
        Ok(Ok(verified)) => verified,
        // Nothing is wrong with the file as far as anybody can say.
        Ok(Err(error @ ReadError::NoKey(_))) => return Err(miette!(help = error.help(), "{shown}: {error}")),
        Ok(Err(error)) => return refuse(args, &told(error)),
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
        table::put(&tell(&verified))?;
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

/// The keys one of whose signatures it may have to bear.
enum Keys {
    /// That of somebody who was named, or of the only honeynet there is.
    One(PublicKey),
    /// Those of several honeynets, with their names, and of the one that is meant whatever the bundle says, if one is.
    Several(Vec<(String, PublicKey)>, Option<PublicKey>),
}

impl Keys {
    /// That which the owner of the honeynet that `manifest` names would have signed with. Who has written that does not
    /// matter: whichever it is, it is one of ours.
    fn of(&self, manifest: &Manifest) -> Option<PublicKey> {
        match self {
            Keys::One(key) => Some(*key),
            Keys::Several(all, only) => {
                let named = || all.iter().filter(|(name, _)| *name == manifest.honeynet).map(|(_, key)| *key);
                // Two of one name may lie in different places.
                named().find(|key| key.fingerprint() == manifest.key).or_else(|| named().next()).or(*only)
            }
        }
    }
}

fn keys_of(args: &Verify) -> miette::Result<Keys> {
    if let Some(path) = &args.key {
        return key::read(path).map(Keys::One);
    }
    let only = directory(&args.target).and_then(|dir| key::of(&dir)).map(|key| key.public());
    if args.target.name.is_none() {
        let all = args.target.all().unwrap_or_default().into_iter();
        let all: Vec<_> = all.filter_map(|lying| Some((lying.name, key::of(&lying.dir).ok()?.public()))).collect();
        if all.len() > 1 {
            return Ok(Keys::Several(all, only.ok()));
        }
    }
    only.map(Keys::One).map_err(|error| {
        miette!(
            help = "--key FILE says whose signature it must bear: the file has what `honeyweave session key` prints where it was \
                    exported; --name NAME says which honeynet's on this machine",
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

fn tell(verified: &Verified) -> String {
    let (manifest, key) = (&verified.manifest, &verified.key);
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::event::{SessionId, Utc};
    use crate::record::bundle::{Job, Key, export};

    /// The bundle of a session of the honeynet in `dir`, which says that it is `called` so.
    fn bundle_of(dir: &Path, called: &str, to: &Path) {
        let key = Key::open(dir).unwrap();
        let job = Job { dir, honeynet: called, session: SessionId(0xabc), key: &key, scratch: dir, now: Utc::EPOCH };
        fs::write(to, export(&job, || Ok(Vec::new())).unwrap().0).unwrap();
    }

    #[test]
    fn of_several_honeynets_that_one_has_the_key_whose_name_the_bundle_has() {
        let state = tempfile::tempdir().unwrap();
        let place = |name: &str| state.path().join(name);
        for name in ["mine", "other"] {
            for part in ["events", "captures", "key"] {
                fs::create_dir_all(place(name).join(part)).unwrap();
            }
            let record = r#"{"v":1,"seq":1,"time":"2026-01-31T12:00:00.000000Z","session":"0000000000000abc","event":"tcp.open"}"#;
            fs::write(place(name).join("events/events.ndjson"), format!("{record}\n")).unwrap();
            Key::open_or_make(&place(name)).unwrap();
        }
        let checked = |from: &str, called: &str, name: Option<&str>| {
            bundle_of(&place(from), called, &place("bundle"));
            let target = Target { name: name.map(str::to_owned), state_dir: Some(state.path().to_owned()) };
            let args = Verify { file: place("bundle"), key: None, password_file: None, target, json: true };
            verify(&args)
        };
        let failed = ExitCode::from(FAILURE);
        assert_eq!(checked("mine", "mine", None).unwrap(), ExitCode::SUCCESS);
        assert_eq!(checked("other", "other", None).unwrap(), ExitCode::SUCCESS);
        assert_eq!(checked("other", "mine", None).unwrap(), failed, "whoever signed it is not who is named");
        assert_eq!(checked("other", "mine", Some("other")).unwrap(), ExitCode::SUCCESS);
        // Nobody can say anything of one of which no key is there.
        let error = checked("mine", "elsewhere", None).unwrap_err();
        assert!(error.to_string().contains("of the honeynet elsewhere"), "{error}");
        let help = error.help().unwrap().to_string();
        assert!(help.contains("--key") && help.contains("--name"), "{help}");
    }
}
