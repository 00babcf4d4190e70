//! `honeyweave session export`: a bundle of all that is known of a session.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PathBufValueParser, TypedValueParser};
use miette::miette;
use rustix::fs::Access;

use super::super::{evidence, harmless, remark, status, table};
use super::late::{self, Late};
use super::password::{Purpose, password};
use super::{Which, directory, events, has_records, key, show, unreadable};
use crate::event::Utc;
use crate::record::bundle::{self, ENDING, ExportError, Job, SEALED, WORK};
use crate::record::escape;
use crate::sys::{clock, privileges};

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
pub fn named(path: PathBuf) -> Result<PathBuf, &'static str> {
    match path.as_os_str().as_encoded_bytes() {
        b"-" => Err("a bundle is a file, not a pipe: name it (one that is called so is ./-)"),
        _ => Ok(path),
    }
}

/// Writes the bundle of a session.
pub fn export(args: &Export) -> miette::Result<ExitCode> {
    let id = args.which.id;
    let ending = if args.plain { "" } else { SEALED };
    let usual = format!("{id}{ENDING}{ending}");
    let path = args.output.clone().unwrap_or_else(|| usual.clone().into());
    // What cannot be is said before anything is read, or asked for.
    check_place(&path, &usual)?;
    let dir = directory(&args.which.target)?;
    let log = events(&dir);
    if !has_records(&log, id).map_err(|error| unreadable(&log, &error))? {
        return Err(show::unknown(id));
    }
    let key = key::of(&dir)?;
    let password = if args.plain { None } else { Some(password(args.password_file.as_deref(), Purpose::Export)?) };
    // Captures stay open while they are read twice.
    privileges::raise_descriptors();
    let scratch = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let honeynet = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let now = Utc::from_micros(clock::realtime_micros());
    let job = Job { dir: &dir, honeynet: &honeynet, session: id, key: &key, scratch, now };
    let file = Late::create(&path).map_err(|error| cannot_create(&path, &error))?;
    let manifest = write(&job, file, password.as_deref()).map_err(|error| match error {
        ExportError::Unknown(id) => show::unknown(id),
        // All that is written goes there.
        ExportError::Io { source, .. } if is_full(&source) => no_room(&path, &source),
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

fn cannot_create(path: &Path, error: &io::Error) -> miette::Report {
    let help = match error.kind() {
        io::ErrorKind::AlreadyExists => "nothing is written over: say another name with -o FILE, or move that one",
        _ => "say where it is to go with -o FILE",
    };
    miette!(help = help, "cannot create {}: {error}", path.display())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

fn no_room(path: &Path, error: &io::Error) -> miette::Report {
    let dir = late::directory(path).display().to_string();
    let help = format!(
        "{dir} has to hold the bundle and, until that is whole, the session's records: make room there, or say another place with -o \
         FILE; nothing of this one is left"
    );
    miette!(help = help, "cannot write {}: {error}", path.display())
}

/// That there can be a bundle at `path`. It would be called `usual` if nobody named it.
fn check_place(path: &Path, usual: &str) -> miette::Result<()> {
    let cannot = |error: io::Error| cannot_create(path, &error);
    if path.is_dir() {
        let help = format!("name a file in it, such as -o {}", path.join(usual).display());
        return Err(miette!(help = help, "{} is a directory", path.display()));
    }
    match path.symlink_metadata() {
        Ok(_) => return Err(cannot(rustix::io::Errno::EXIST.into())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(cannot(error)),
    }
    let dir = late::directory(path);
    let is_dir = match fs::metadata(dir) {
        Ok(about) => about.is_dir(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let help = "make it, or say another place with -o FILE";
            return Err(miette!(
                help = help,
                "cannot create {}: the directory {} does not exist",
                path.display(),
                dir.display()
            ));
        }
        Err(error) => return Err(cannot(error)),
    };
    if !is_dir {
        return Err(cannot(io::Error::other(format!("{} is no directory", dir.display()))));
    }
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(cannot(io::Error::other("that is no name of a file")));
    }
    rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| cannot(error.into()))
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

    #[test]
    fn a_full_target_is_named_with_what_to_do() {
        let error = no_room(Path::new("/media/stick/x.tar.zst"), &io::Error::from(io::ErrorKind::StorageFull));
        assert!(error.to_string().starts_with("cannot write /media/stick/x.tar.zst: "), "{error}");
        let help = error.help().unwrap().to_string();
        assert!(help.contains("/media/stick has to hold the bundle") && help.contains("-o FILE"), "{help}");
        assert!(
            is_full(&io::Error::from_raw_os_error(libc::ENOSPC))
                && is_full(&io::Error::from_raw_os_error(libc::EDQUOT))
        );
        assert!(!is_full(&io::Error::from_raw_os_error(libc::EIO)));
    }

    #[test]
    fn where_no_file_can_be_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        let usual = "00.tar.zst";
        assert!(check_place(&path("new"), usual).is_ok() && check_place(Path::new("new"), usual).is_ok());
        let long = "x".repeat(256);
        for (name, why, help) in [
            ("", " is a directory", "name a file in it, such as -o "),
            ("missing/x", "/missing does not exist", "make it"),
            ("file", "cannot create ", "nothing is written over"),
            ("file/x", "/file is no directory", "-o FILE"),
            ("new/", "no name of a file", "-o FILE"),
            (&long, "too long", "-o FILE"),
        ] {
            let error = check_place(&path(name), usual).unwrap_err();
            assert!(error.to_string().contains(why), "{name}: {error}");
            assert!(error.help().unwrap().to_string().contains(help), "{name}: {error:?}");
        }
        assert!(
            check_place(Path::new("/proc/x"), usual).is_err() || rustix::fs::access("/proc", Access::WRITE_OK).is_ok()
        );
    }
}
