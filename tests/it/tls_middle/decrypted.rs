//! What was recorded of the secrets decrypts what went over the wire.

use std::process::Command;

use honeyweave::relay::tape::Entry;

use super::lab::{Lab, Nginx, Setup, shell};
use crate::net::{Running, wait_for};

#[test]
fn tshark_decrypts_a_capture_with_the_recorded_secrets() {
    let nginx = Nginx::start();
    for version in ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"] {
        let lab = Lab::new(Setup::default(), nginx.clear);
        let (capture, keys) = (nginx.path("capture.pcap"), nginx.path("keys"));
        let mut command = Command::new("tcpdump");
        command.args(["-i", "lo", "-U", "--immediate-mode", "-Z", "root", "-s", "0", "-w"]).arg(&capture);
        let mut tcpdump = Running::start(command.args(["tcp", "port", &lab.port.to_string()]));
        tcpdump.wait_line("listening on lo");
        let said = shell(&format!("curl -sSk {version} https://127.0.0.1:{}/?secret=1", lab.port));
        assert!(said.contains("<h1>inside</h1>"), "{said}");
        let told = lab.ended();
        let lines = told.iter().filter_map(|entry| match entry {
            Entry::TlsSecrets { lines } => Some(lines.as_str()),
            _ => None,
        });
        std::fs::write(&keys, lines.collect::<String>()).unwrap();
        let read = |keys: &str| {
            shell(&format!(
                "tshark -r {} -o tls.keylog_file:{keys} -d tcp.port=={},tls -Y http -T fields -e http.request.uri \
                 -e http.response.code -e http.file_data",
                capture.display(),
                lab.port
            ))
        };
        // The last packets may not be in the file yet.
        wait_for("the capture", || Some(read(&keys.display().to_string())).filter(|said| said.contains("200\t")));
        let said = read(&keys.display().to_string());
        assert!(said.contains("/?secret=1") && said.contains("<h1>inside</h1>"), "{said}");
        let said = read("/dev/null");
        assert!(!said.contains("secret") && !said.contains("200\t"), "{said}");
    }
}
