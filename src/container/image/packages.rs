//! Debian packages: found and fetched by the machine's own APT with its own
//! sources and keys, never by addresses written here.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ImageError, Progress, SOURCES_ENV, at};

/// Lines of a failed tool's output that its error shows.
const SHOWN: usize = 15;
/// What to do about packages that cannot be found.
const OFFLINE: &str = "packages come from the network: where there is none (in a network namespace, say), run \
    `honeyweave image build` before, where there is one";

/// Runs `command` to its end. What it writes goes to `progress`; its last lines
/// are shown if it fails.
pub fn run(mut command: Command, what: &str, progress: &Progress) -> Result<(), ImageError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => ImageError::NoProgram(program.clone()),
        _ => ImageError::Tool { what: what.into(), status: error.to_string(), output: vec![] },
    };
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    let mut child = command.spawn().map_err(failed)?;
    // The command holds copies of the pipe's other end, which would keep it open.
    drop(command);
    let mut output = VecDeque::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.is_empty() {
            continue;
        }
        progress.detail(&line);
        output.push_back(line);
        if output.len() > SHOWN {
            output.pop_front();
        }
    }
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(ImageError::Tool { what: what.into(), status: status.to_string(), output: output.into() }),
    }
}

/// The machine's APT, with a cache of our own.
pub struct Apt {
    cache: PathBuf,
    /// What counts as installed, in the format of `/var/lib/dpkg/status`.
    status: PathBuf,
    sources: Option<PathBuf>,
}

impl Apt {
    /// With its cache in `cache`, for a root in which nothing is installed.
    pub fn new(cache: PathBuf) -> Result<Apt, ImageError> {
        // An empty status file: nothing counts as installed, so every dependency is fetched.
        let status = cache.join("status");
        let apt = Apt::upon(cache, status)?;
        fs::write(&apt.status, "").map_err(at("write", &apt.status))?;
        Ok(apt)
    }

    /// With its cache in `cache`, for a root in which is installed what `status` says.
    pub fn upon(cache: PathBuf, status: PathBuf) -> Result<Apt, ImageError> {
        for dir in ["archives/partial", "lists/partial", "none/partial"] {
            let dir = cache.join(dir);
            fs::create_dir_all(&dir).map_err(at("create", &dir))?;
        }
        Ok(Apt { cache, status, sources: None })
    }

    /// Fetches `packages` and all they depend on; returns the files.
    pub fn fetch(&mut self, packages: &[String], progress: &Progress) -> Result<Vec<PathBuf>, ImageError> {
        if std::env::var_os(SOURCES_ENV).is_some() {
            self.use_own_lists(progress)?;
        }
        match self.try_fetch(packages, progress) {
            // The machine's lists are missing or out of date: fetch fresh ones, which leaves the machine's alone.
            Err(ImageError::Tool { .. }) if self.sources.is_none() => {
                self.use_own_lists(progress)?;
                self.try_fetch(packages, progress)
            }
            result => result,
        }
    }

    fn try_fetch(&self, packages: &[String], progress: &Progress) -> Result<Vec<PathBuf>, ImageError> {
        // With a cache that is empty: APT does not list what it has fetched already.
        let mut list = self.command("none");
        let output = list.args(["-qq", "--print-uris", "install"]).args(packages).stdin(Stdio::null()).output();
        let output = match output {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(ImageError::NoProgram("apt-get".into())),
            other => other.map_err(at("run apt-get in", &self.cache))?,
        };
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let mut output_end = lines[lines.len().saturating_sub(SHOWN)..].to_vec();
            output_end.push(OFFLINE.to_owned());
            return Err(ImageError::Tool {
                what: "finding the packages".into(),
                status: output.status.to_string(),
                output: output_end,
            });
        }
        let mut download = self.command("archives");
        download.args(["-q", "--download-only", "install"]).args(packages);
        run(download, "downloading packages", progress)?;
        let archives = self.cache.join("archives");
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        Ok(names.map(|name| archives.join(name)).collect())
    }

    fn command(&self, archives: &str) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("--yes").arg("--no-install-recommends");
        let mut option = |text: String| {
            command.arg("-o").arg(text);
        };
        option(format!("Dir::State::status={}", self.status.display()));
        option(format!("Dir::Cache::archives={}", self.cache.join(archives).display()));
        option("Dir::Cache::pkgcache=".into());
        option("Dir::Cache::srcpkgcache=".into());
        option("Debug::NoLocking=1".into());
        option("APT::Sandbox::User=root".into());
        if let Some(sources) = &self.sources {
            option(format!("Dir::State::lists={}", self.cache.join("lists").display()));
            option(format!("Dir::Etc::sourcelist={}", sources.display()));
            option("Dir::Etc::sourceparts=/dev/null".into());
        }
        command
    }

    fn use_own_lists(&mut self, progress: &Progress) -> Result<(), ImageError> {
        let sources = sources()?;
        let path = self.cache.join(if sources.contains("URIs:") { "own.sources" } else { "own.list" });
        fs::write(&path, sources).map_err(at("write", &path))?;
        self.sources = Some(path);
        let mut update = self.command("archives");
        update.args(["-q", "update"]);
        run(update, "fetching package lists", progress)
    }
}

/// APT sources of the machine's own release, as text in one of APT's two
/// formats. Other vendors' sources are left out: they have nothing that an image
/// needs, and one that is broken would break every build.
pub fn sources() -> Result<String, ImageError> {
    if let Some(path) = std::env::var_os(SOURCES_ENV).map(PathBuf::from) {
        return fs::read_to_string(&path).map_err(at("read", &path));
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty());
    let (mut list, mut deb822) = (String::new(), String::new());
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|e| e.to_str()) {
            Some("list") => list.push_str(&own_lines(&text, codename)),
            Some("sources") => deb822.push_str(&own_stanzas(&text, codename)),
            _ => {}
        }
    }
    match (list.is_empty(), deb822.is_empty()) {
        (_, false) => Ok(deb822),
        (false, true) => Ok(list),
        (true, true) => Err(ImageError::NoSources),
    }
}

/// The mirror and suite of the first source in `sources`, in either format.
pub fn first_source(sources: &str) -> Option<(String, String)> {
    let first = |field: &str| {
        let value = sources.lines().find_map(|line| line.strip_prefix(field))?;
        value.split_whitespace().next().map(str::to_owned)
    };
    if let (Some(mirror), Some(suite)) = (first("URIs:"), first("Suites:")) {
        return Some((mirror, suite));
    }
    let line = sources.lines().find_map(|line| line.trim().strip_prefix("deb "))?.trim_start();
    let line = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
    let mut words = line.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

/// Whether `suite` belongs to the release `codename` (`None` takes all): itself, `-updates`, `-security`.
fn is_own(suite: &str, codename: Option<&str>) -> bool {
    let Some(codename) = codename else { return true };
    suite.strip_prefix(codename).is_some_and(|rest| ["", "-updates", "-security", "/updates"].contains(&rest))
}

fn own_lines(text: &str, codename: Option<&str>) -> String {
    let own = |line: &&str| {
        let Some(rest) = line.trim().strip_prefix("deb ") else { return false };
        let rest = rest.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        rest.split_whitespace().nth(1).is_some_and(|suite| is_own(suite, codename))
    };
    text.lines().filter(own).flat_map(|line| [line, "\n"]).collect()
}

fn own_stanzas(text: &str, codename: Option<&str>) -> String {
    let uncommented: String = text.lines().filter(|l| !l.starts_with('#')).flat_map(|l| [l.trim_end(), "\n"]).collect();
    let own = |stanza: &&str| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        field("Enabled:") != Some("no")
            && field("Types:").is_some_and(|types| types.split_whitespace().any(|t| t == "deb"))
            && field("Suites:").is_some_and(|suites| suites.split_whitespace().any(|s| is_own(s, codename)))
    };
    uncommented.split("\n\n").map(str::trim).filter(own).flat_map(|stanza| [stanza, "\n\n"]).collect()
}

/// Unpacks the package `file` into `root`.
pub fn unpack(file: &Path, root: &Path, progress: &Progress) -> Result<(), ImageError> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(file).arg(root);
    run(command, &format!("unpacking {}", file.display()), progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_sources_of_the_own_release() {
        let text = "# comment\nTypes: deb\nURIs: http://a.invalid/debian\nSuites: sid sid-updates\n\n\
                    Types: deb\nURIs: http://b.invalid\nSuites: nodistro\n\nTypes: deb-src\nURIs: x\nSuites: sid\n\n\
                    Enabled: no\nTypes: deb\nURIs: y\nSuites: sid\n";
        let own = own_stanzas(text, Some("sid"));
        assert!(own.contains("a.invalid") && !own.contains("b.invalid"), "{own}");
        assert_eq!(own.matches("Types:").count(), 1, "{own}");
        let list = "deb http://a.invalid sid main\n# deb x sid main\ndeb-src http://a.invalid sid main\n\
                    deb [signed-by=/k arch=amd64] http://c.invalid sid-updates main\ndeb http://b.invalid cloud-sid main\n";
        let own = own_lines(list, Some("sid"));
        assert_eq!(own.lines().count(), 2, "{own}");
        assert!(own.contains("c.invalid") && !own.contains("b.invalid"));
        assert_eq!(own_lines(list, None).lines().count(), 3);
        let source = |mirror: &str, suite: &str| Some((mirror.to_owned(), suite.to_owned()));
        assert_eq!(first_source(&own_stanzas(text, Some("sid"))), source("http://a.invalid/debian", "sid"));
        assert_eq!(first_source(&own), source("http://a.invalid", "sid"));
        assert_eq!(first_source("deb [a=b] http://c.invalid sid main"), source("http://c.invalid", "sid"));
        assert_eq!(first_source(""), None);
    }

    #[test]
    fn a_failed_tool_shows_its_last_lines() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done; echo why >&2; exit 3"]);
        let error = run(command, "trying", &Progress::Silent).unwrap_err().to_string();
        assert!(error.starts_with("trying failed (exit status: 3)") && error.ends_with("| why"), "{error}");
        assert_eq!(error.lines().count(), SHOWN + 1);
        let missing = run(Command::new("/nonexistent/tool"), "trying", &Progress::Silent);
        assert!(matches!(missing, Err(ImageError::NoProgram(_))));
    }
}
