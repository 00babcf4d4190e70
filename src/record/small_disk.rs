//! A disk of its own for a test that fills it.

use std::path::PathBuf;
use std::process::Command;

const DISK: &str = "HWT_SMALL_DISK";

/// Runs the test called `test`, in a process and a mount namespace of its own, on a real disk of `size`, such as `64k`.
pub fn run(test: &str, size: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut flags = vec!["--mount"];
    if !rustix::process::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    let script = "mount -t tmpfs -o size=\"$3\" none \"$1\" && exec \"$2\" --exact \"$4\"";
    let output = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args([size, test])
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Where that disk is, if the calling test is one that [`run`] runs.
pub fn disk() -> Option<PathBuf> {
    std::env::var_os(DISK).map(PathBuf::from)
}
