//! `honeyweave import`: topologies from what others wrote.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::topology::import::{self, Imported, Settings};
use crate::topology::personalities::Personalities;
use crate::topology::{Diagnostic, Diagnostics};

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

/// What is imported.
#[derive(clap::Subcommand, Debug)]
enum From {
    /// A configuration of Honeyd
    Honeyd(Files),
    /// A scan that `nmap -oX` wrote: a network that looks like the scanned one
    Nmap(Files),
}

/// Where from and where to.
#[derive(clap::Args, Debug)]
struct Files {
    /// The file to read; `-` is standard input
    file: PathBuf,
    /// Write the topology to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "output")]
    force: bool,
    /// Print JSON: the topology and the warnings
    #[arg(long)]
    json: bool,
}

/// Imports, prints or writes the topology, and warns of what is lost.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let (files, translate) = match args.from {
        From::Honeyd(files) => (files, import::honeyd as fn(&[u8], Settings<'_>) -> Result<Imported, Diagnostics>),
        From::Nmap(files) => (files, import::nmap as _),
    };
    let name = files.file.display().to_string();
    let bytes = read(&files.file, &name)?;
    let personalities = RefCell::new(Personalities::default());
    let known = |name: &str| personalities.borrow_mut().knows(name);
    let imported = translate(&bytes, Settings { name: &name, known: &known })?;
    if let Some(output) = &files.output {
        write(output, &imported.yaml, files.force)?;
    }
    if files.json {
        let value = serde_json::json!({ "yaml": imported.yaml, "warnings": imported.warnings });
        super::print(&format!("{value:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut warnings = String::new();
    for warning in &imported.warnings {
        let place = if warning.line == 0 { String::new() } else { format!("line {}: ", warning.line) };
        warnings.push_str(&format!("warning: {place}{}\n", warning.text));
    }
    // Whoever closed standard error does not want them.
    let _ = std::io::stderr().write_all(warnings.as_bytes());
    if files.output.is_none() {
        super::print(&imported.yaml)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path, name: &str) -> Result<Vec<u8>, Diagnostics> {
    let mut bytes = Vec::new();
    // One octet more than is taken, so that what is too large is seen to be.
    let most = import::MAX_INPUT + 1;
    let result = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    match result {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let diagnostic = Diagnostic::of_file(name, format!("cannot read {name}: {error}"));
            Err(diagnostic.help("check the path and its permissions; `-` reads standard input").into())
        }
    }
}

fn write(path: &Path, text: &str, force: bool) -> miette::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o644);
    // A symbolic link is not followed to something that was not meant, unless one insists.
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let name = path.display();
    let result = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let help = "choose another name, or overwrite it with --force";
            miette::miette!(help = help, "{name} exists already, and was not touched")
        }
        _ => miette::miette!(help = "check the folder and its permissions", "cannot write {name}: {error}"),
    })
}
