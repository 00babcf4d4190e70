//! AppArmor's part in holding containers back, on machines where it is on.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What they are confined by.
const PROFILE: &str = include_str!("apparmor.profile");
const NAME: &str = "confined-session";
/// The profile that liblxc asks for by default, which it brings along.
const USUAL: &str = "lxc-container-default-cgns";
/// Loads profiles.
const LOADER: &str = "apparmor_parser";

/// The profile that containers get, in liblxc's words; none where AppArmor is off. Loads our own at the first call. A
/// machine that cannot have it uses that of liblxc, or else none: a container that cannot be confined so still is by
/// everything else.
pub fn profile() -> Option<&'static str> {
    static CHOICE: OnceLock<Option<&str>> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
        on.then(|| {
            if let Err(error) = load() {
                tracing::warn!(%error, "AppArmor's profile is not loaded: install `{LOADER}` (package apparmor)");
            }
            choose(&fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default())
        })
    })
}

/// What to use of the profiles that the kernel lists.
fn choose(loaded: &str) -> &'static str {
    let is_there = |name: &&str| loaded.lines().any(|line| line.split(' ').next() == Some(name));
    [NAME, USUAL].into_iter().find(is_there).unwrap_or("unconfined")
}

fn load() -> io::Result<()> {
    parse(&["--replace", "--skip-cache", "--quiet"], PROFILE)
}

fn parse(options: &[&str], profile: &str) -> io::Result<()> {
    let mut command = Command::new(LOADER);
    command.args(options).env_clear().env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").current_dir("/");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ends early, it says why.
        let _ = stdin.write_all(profile.as_bytes());
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(400).collect();
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{LOADER}: {said} ({})", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::keeper::settings::DROPPED_CAPABILITIES;

    /// The kernel of the machine need not have AppArmor for that.
    const ONLY_PARSE: [&str; 3] = ["--skip-kernel-load", "--skip-cache", "--quiet"];

    #[test]
    fn the_profile_is_one() {
        parse(&ONLY_PARSE, PROFILE).unwrap();
        assert!(PROFILE.contains(&format!("profile {NAME} ")));
        let broken = PROFILE.replace("umount,", "umuont,");
        assert!(parse(&ONLY_PARSE, &broken).unwrap_err().to_string().contains("syntax error"));
    }

    #[test]
    fn no_container_has_a_capability_by_it_that_it_is_not_to_have() {
        for capability in DROPPED_CAPABILITIES.split_whitespace() {
            assert!(PROFILE.contains(&format!("  deny capability {capability},\n")), "{capability}");
        }
        assert_eq!(PROFILE.matches("deny capability").count(), DROPPED_CAPABILITIES.split_whitespace().count());
        // What an intruder can read.
        assert!(!NAME.contains("lxc") && !NAME.contains("honey") && !NAME.contains("container"));
    }

    #[test]
    fn our_own_comes_before_liblxcs() {
        let usual = "lxc-container-default-cgns (enforce)\n/usr/bin/man (enforce)\n";
        assert_eq!(choose(&format!("{usual}confined-session (enforce)\n")), NAME);
        assert_eq!(choose(usual), USUAL);
        assert_eq!(choose("confined-session-2 (enforce)\n"), "unconfined");
    }
}
