//! `recipe.yaml`: what is written in it.

use serde::{Deserialize, Serialize};

use super::{HostKey, Method};
use crate::container::ImageUser;

/// What a service speaks below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// What answers when a container of the image runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What is spoken, such as `ssh`.
    pub name: String,
    /// TCP or UDP port, from 1.
    pub port: u16,
    /// TCP, if nothing is said.
    #[serde(default)]
    pub proto: Proto,
    /// The command that serves it, started by init and started again when it ends; none if another serves it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        };
        write!(f, "{}={}/{proto}", self.name, self.port)
    }
}

/// A file that is there for an intruder to find.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoy {
    /// Where, absolute inside the image. Folders on the way belong to `owner`, too.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Its mode; 0644 if none is given.
    #[serde(default = "plain_mode")]
    pub mode: u32,
    /// The account that it belongs to; root if none is given.
    #[serde(default = "root")]
    pub owner: String,
    /// How many days before the build it was last written.
    #[serde(default)]
    pub age_days: u32,
}

fn plain_mode() -> u32 {
    0o644
}

fn root() -> String {
    "root".into()
}

/// A file of `files:`, for what is too short for a file of its own.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inline {
    /// Where, absolute inside the image.
    pub path: String,
    /// Its content.
    pub content: String,
    /// Its mode.
    pub mode: Option<u32>,
}

/// A recipe as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    pub name: String,
    #[serde(default)]
    pub about: String,
    #[serde(default)]
    pub method: Method,
    #[serde(default)]
    pub packages: Vec<String>,
    /// Commands that init runs before the services.
    #[serde(default)]
    pub boot: Vec<String>,
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub users: Vec<ImageUser>,
    #[serde(default)]
    pub files: Vec<Inline>,
    #[serde(default)]
    pub decoys: Vec<Decoy>,
    #[serde(default = "init")]
    pub init: Vec<String>,
    pub host_key: Option<HostKey>,
}

fn init() -> Vec<String> {
    vec!["/sbin/init".into()]
}

impl Source {
    /// Reads `text`; the error says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Source, String> {
        let text = std::str::from_utf8(text).map_err(|_| "recipe.yaml is not UTF-8".to_owned())?;
        let source: Source = serde_saphyr::from_str(text).map_err(|error| format!("recipe.yaml: {error}"))?;
        source.check().map(|()| source)
    }

    fn check(&self) -> Result<(), String> {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let plain = |name: &str, more: &[u8], max: usize| {
            (1..=max).contains(&name.len())
                && name.bytes().all(|b| lower(b) || more.contains(&b))
                && lower(name.as_bytes()[0])
        };
        if !plain(&self.name, b"-", 64) {
            return Err(format!("`name: {}`: use lower-case letters, digits and `-`", self.name));
        }
        if let Some(package) = self.packages.iter().find(|package| !plain(package, b"+-.", 128)) {
            return Err(format!("`{package}` is no name of a Debian package"));
        }
        for user in &self.users {
            if !plain(&user.name, b"-_", 32) {
                return Err(format!("`{}` is no log-in name", user.name));
            }
            if user.password.is_empty() || user.password.bytes().any(|b| b < b' ' || b == b':') {
                return Err(format!("the password of `{}` is empty or has a `:` or a control character", user.name));
            }
        }
        for service in &self.services {
            if service.port == 0 || !plain(&service.name, b"-", 32) {
                return Err(format!("the service `{}` on port {} cannot be", service.name, service.port));
            }
        }
        let commands = self.boot.iter().chain(self.services.iter().filter_map(|service| service.run.as_ref()));
        if let Some(command) = commands.into_iter().find(|command| command.contains('\n') || !command.starts_with('/'))
        {
            return Err(format!("`{command}`: init wants one line that begins with the program's absolute path"));
        }
        let paths = self.files.iter().map(|file| &file.path).chain(self.decoys.iter().map(|decoy| &decoy.path));
        for path in paths {
            if !path.starts_with('/') || path.ends_with('/') || path.split('/').any(|part| part == "..") {
                return Err(format!("`{path}`: a file's path is absolute, without `..`"));
            }
        }
        if let Some(owner) = self.decoys.iter().map(|decoy| &decoy.owner).find(|owner| !plain(owner, b"-_", 32)) {
            return Err(format!("`owner: {owner}` is no account"));
        }
        match self.init.first() {
            Some(first) if first.starts_with('/') => Ok(()),
            _ => Err("`init` is a list that begins with the absolute path of a program".into()),
        }
    }

    /// What busybox's init is told.
    pub fn inittab(&self) -> String {
        let boot = self.boot.iter().map(|command| format!("::sysinit:{command}\n"));
        let run = self.services.iter().filter_map(|service| service.run.as_ref());
        boot.chain(run.map(|command| format!("::respawn:{command}\n"))).collect()
    }
}
