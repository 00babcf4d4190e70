//! A passive listener on the attacker's wire: tcpdump into a file, which tshark decodes.

use std::process::Command;

use crate::lab::Lab;
use crate::net::{Running, wait_for};

/// What was on the wire since it began.
pub struct Listener {
    file: String,
    _tcpdump: Running,
}

impl Listener {
    /// Listens on the attacker's `eth0` from now on.
    pub fn start(lab: &Lab) -> Listener {
        let file = lab.path("heard.pcap").to_str().unwrap().to_owned();
        let mut tcpdump = lab.attacker.spawn(&["tcpdump", "-i", "eth0", "-U", "-w", &file]);
        tcpdump.wait_line("listening on");
        Listener { file, _tcpdump: tcpdump }
    }

    /// The values of `fields` of every frame that `filter` chooses.
    pub fn decoded(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut command = Command::new("tshark");
        command.args(["-r", &self.file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
        command.args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        let output = command.output().unwrap();
        // The last frame of a file that is still written to may be cut; anything else is a mistake in the filter.
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains("cut short") || !complaint.contains("tshark: "), "{filter}: {complaint}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }

    /// How many frames `filter` chooses.
    pub fn count(&self, filter: &str) -> usize {
        self.decoded(filter, &["frame.number"]).len()
    }

    /// Waits until each filter chooses a frame.
    pub fn wait(&self, filters: &[&str]) {
        let mut left = filters.to_vec();
        wait_for(&format!("{filters:?}"), || {
            left.retain(|filter| self.count(filter) == 0);
            left.is_empty().then_some(())
        });
    }
}
