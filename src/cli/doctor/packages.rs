//! Which package of which distribution has what.

use std::fs;

/// The package managers that commands are known for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// Debian, Ubuntu and their kin.
    Apt,
    /// Fedora, RHEL and their kin.
    Dnf,
    /// Arch and its kin.
    Pacman,
    /// openSUSE and SLES.
    Zypper,
}

/// What may have to be installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Package {
    /// liblxc with its files.
    Lxc,
    /// `apt-get`.
    Apt,
    /// `dpkg-deb`.
    Dpkg,
    /// mmdebstrap, or debootstrap where that is all there is.
    Bootstrap,
    /// `chroot`.
    Coreutils,
    /// `mkfs.ext4`.
    E2fsprogs,
}

impl Distribution {
    /// That of this machine, by `/etc/os-release`.
    pub fn detect() -> Option<Distribution> {
        let release = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
        Distribution::parse(&release.unwrap_or_default())
    }

    fn parse(release: &str) -> Option<Distribution> {
        let field = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let words = format!("{} {}", field("ID"), field("ID_LIKE"));
        words.split_whitespace().find_map(|word| match word {
            "debian" | "ubuntu" => Some(Distribution::Apt),
            "fedora" | "rhel" | "centos" => Some(Distribution::Dnf),
            "arch" | "archlinux" | "manjaro" => Some(Distribution::Pacman),
            "suse" | "opensuse" | "sles" => Some(Distribution::Zypper),
            other if other.starts_with("opensuse-") => Some(Distribution::Zypper),
            _ => None,
        })
    }

    /// The command that installs `package`.
    pub fn install(self, package: Package) -> String {
        use Distribution::{Apt, Dnf, Pacman, Zypper};
        let names = match (package, self) {
            (Package::Lxc, Apt) => "lxc",
            (Package::Lxc, Dnf) => "lxc lxc-libs",
            (Package::Lxc, Pacman) => "lxc",
            (Package::Lxc, Zypper) => "lxc liblxc1",
            (Package::Apt, _) => "apt",
            (Package::Dpkg, _) => "dpkg",
            (Package::Bootstrap, Apt) => "mmdebstrap",
            (Package::Bootstrap, _) => "debootstrap",
            (Package::Coreutils, _) => "coreutils",
            (Package::E2fsprogs, _) => "e2fsprogs",
        };
        let command = match self {
            Apt => "sudo apt-get install -y --no-install-recommends",
            Dnf => "sudo dnf install -y",
            Pacman => "sudo pacman -S --needed --noconfirm",
            Zypper => "sudo zypper install -y",
        };
        format!("{command} {names}")
    }
}

/// The command that installs `package` here, or for all four package managers where it is not known which this has.
pub fn install(package: Package) -> String {
    match Distribution::detect() {
        Some(distribution) => distribution.install(package),
        None => [Distribution::Apt, Distribution::Dnf, Distribution::Pacman, Distribution::Zypper]
            .map(|distribution| distribution.install(package))
            .join("  |  "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_their_release() {
        for (release, expected) in [
            ("ID=debian\n", Some(Distribution::Apt)),
            ("NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Distribution::Apt)),
            ("ID=fedora\n", Some(Distribution::Dnf)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Distribution::Dnf)),
            ("ID=arch\n", Some(Distribution::Pacman)),
            ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Some(Distribution::Zypper)),
            ("ID=plan9\n", None),
            ("", None),
        ] {
            assert_eq!(Distribution::parse(release), expected, "{release}");
        }
    }

    #[test]
    fn each_manager_has_its_command() {
        let commands = [Distribution::Apt, Distribution::Dnf, Distribution::Pacman, Distribution::Zypper]
            .map(|distribution| distribution.install(Package::Lxc));
        for (command, start) in commands.iter().zip(["sudo apt-get", "sudo dnf", "sudo pacman", "sudo zypper"]) {
            assert!(command.starts_with(start) && command.contains(" lxc"), "{command}");
        }
    }
}
