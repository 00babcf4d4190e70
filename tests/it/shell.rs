//! Sessions on hosts, by the OpenSSH client.

use std::process::Output;

use crate::net::Ns;

/// Runs a command on a host as an attacker who knows root's password.
pub fn ssh(from: &Ns, host: &str, command: &str) -> Output {
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let login = format!("root@{host}");
    let args = [&["timeout", "60", "sshpass", "-p", "toor", "ssh", "-T"][..], &options, &[&login, command]].concat();
    from.run(&args)
}

/// The same; panics unless it succeeds.
pub fn shell(from: &Ns, host: &str, command: &str) -> String {
    let output = ssh(from, host, command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}
