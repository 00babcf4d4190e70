//! What each event is called in forms that classify: one row an event.

use crate::event::EventId;

/// How an event is classified.
pub struct Row {
    /// A title for people, as CEF has it.
    pub title: &'static str,
    /// How grave it is: 0 to 10, as CEF has it.
    pub severity: u8,
    /// ECS `event.category`.
    pub category: &'static [&'static str],
    /// ECS `event.type`.
    pub types: &'static [&'static str],
}

impl Row {
    /// Severity of RFC 5424: from `informational` to `error`.
    pub fn syslog(&self) -> u8 {
        match self.severity {
            0..=3 => 6,
            4..=6 => 5,
            7..=8 => 4,
            _ => 3,
        }
    }
}

const fn row(
    title: &'static str,
    severity: u8,
    category: &'static [&'static str],
    types: &'static [&'static str],
) -> Row {
    Row { title, severity, category, types }
}

/// The row of an event.
pub fn of(id: EventId) -> Row {
    use EventId::*;
    const NETWORK: &[&str] = &["network"];
    const LOGIN: &[&str] = &["authentication"];
    const SESSION: &[&str] = &["session"];
    const HOST: &[&str] = &["host"];
    const PROCESS: &[&str] = &["process"];
    const FILE: &[&str] = &["file"];
    const WATCHED: &[&str] = &["intrusion_detection", "network"];
    const INFO: &[&str] = &["info"];
    const START: &[&str] = &["start"];
    const END: &[&str] = &["end"];
    match id {
        SessionStart => row("Attacker came back", 3, SESSION, START),
        SessionEnd => row("Attacker was idle", 1, SESSION, END),
        ArpRequest => row("Host looked for", 1, NETWORK, INFO),
        IcmpEcho => row("Echo request", 1, NETWORK, &["connection", "info"]),
        TcpProbe => row("TCP port probed", 2, NETWORK, &["connection", "start"]),
        TcpOpen => row("TCP connection", 3, NETWORK, &["connection", "start"]),
        TcpClose => row("TCP connection ended", 1, NETWORK, &["connection", "end"]),
        TcpData => row("First octets of a connection", 3, NETWORK, &["connection", "protocol"]),
        UdpDatagram => row("UDP datagram", 2, NETWORK, &["connection", "start"]),
        ServiceRequest => row("Request to a service", 4, NETWORK, &["protocol"]),
        ServiceFailed => row("Service did not answer", 5, NETWORK, INFO),
        ContainerStart => row("Container is being started", 3, HOST, START),
        ContainerLive => row("Container answers", 3, HOST, INFO),
        ContainerFailed => row("Container failed", 6, HOST, INFO),
        ContainerStop => row("Container stopped", 2, HOST, END),
        OutwardFlow => row("Container began a flow", 7, WATCHED, INFO),
        OutwardReflect => row("Flow of a container answered inside", 7, WATCHED, INFO),
        OutwardDrop => row("Flow of a container discarded", 7, WATCHED, &["denied"]),
        GuardBlock => row("Uplink guard kept a frame inside", 5, WATCHED, &["denied"]),
        DeviceState => row("Device changed", 6, HOST, &["change"]),
        NodePanic => row("Node failed on frames", 8, HOST, INFO),
        ProcessState => row("Process of the honeynet changed", 5, PROCESS, INFO),
        Gap => row("Records lost", 8, HOST, INFO),
        LogDeleted => row("Oldest records deleted", 4, FILE, &["deletion"]),
        ServiceLogin => row("Log-in to a service", 5, LOGIN, START),
        TlsHello => row("TLS client", 3, NETWORK, &["protocol"]),
        TlsCertificate => row("Client certificate", 5, LOGIN, INFO),
        AddressClaimed => row("Address claimed", 1, NETWORK, INFO),
        AddressReleased => row("Address released", 1, NETWORK, INFO),
        DhcpLeased => row("Address leased", 1, NETWORK, INFO),
        DhcpLost => row("Lease lost", 3, NETWORK, INFO),
        DhcpDeclined => row("Address in use by another", 3, NETWORK, INFO),
        DhcpRefused => row("DHCP server not believed", 5, NETWORK, &["denied"]),
        ContainerFrozen => row("Container frozen", 1, HOST, &["change"]),
        ContainerThawed => row("Container goes on", 1, HOST, &["change"]),
        ContainerDestroyed => row("Container destroyed", 2, HOST, END),
        ContainerHeld => row("Attacker has its share of containers", 4, HOST, INFO),
        GateBlock => row("Container sent what reaches nobody", 8, WATCHED, &["denied"]),
        EvidenceTaken => row("Changes in a container taken", 5, FILE, &["creation"]),
        EvidenceFailed => row("Changes in a container not taken", 7, FILE, INFO),
        EvidenceDeleted => row("Evidence deleted", 3, FILE, &["deletion"]),
        SshHello => row("SSH client", 3, NETWORK, &["protocol"]),
        SshLogin => row("SSH log-in", 5, LOGIN, START),
        SshShell => row("SSH shell or subsystem", 7, SESSION, START),
        SshCommand => row("Command by SSH", 8, PROCESS, START),
        SshFile => row("File moved by SSH", 8, FILE, &["access", "creation"]),
        SshForward => row("SSH forward", 7, NETWORK, &["connection", "start"]),
        SshClose => row("SSH connection ended", 1, NETWORK, &["connection", "end"]),
        SshEnv => row("Variable by SSH", 3, SESSION, INFO),
        SshExit => row("Shell or command by SSH is over", 3, PROCESS, END),
        TelnetShell => row("Telnet shell", 7, SESSION, START),
        TelnetExit => row("Telnet shell is over", 3, PROCESS, END),
        SshForwardData => row("First octets of an SSH forward", 7, NETWORK, &["connection", "protocol"]),
        RecordingFailed => row("Connections are not recorded", 8, HOST, INFO),
        RecordingDeleted => row("Recordings deleted", 4, FILE, &["deletion"]),
        EvidenceListed => row("Changes in a container listed", 5, FILE, INFO),
        CaptureDeleted => row("Captures deleted", 4, FILE, &["deletion"]),
        ContainerExec => row("Program begun in a container", 7, PROCESS, START),
        ContainerExit => row("Process in a container ended", 1, PROCESS, END),
        ContainerFile => row("File changed in a container", 7, FILE, &["access", "change", "creation", "deletion"]),
        ContainerConnect => row("Process in a container connects", 7, NETWORK, &["connection", "start"]),
        ContainerListen => row("Process in a container listens", 7, NETWORK, INFO),
        ContainerRaw => row("Process in a container opens a raw socket", 7, NETWORK, INFO),
        ContainerUntold => row("More happened in a container than is told", 6, HOST, INFO),
        IdsAlert => row("Alert of a sensor", 8, &["intrusion_detection"], &["info"]),
        ContainerLog => row("Message to a container's log", 3, HOST, INFO),
        ContainerLogin => row("Log-in in a container", 6, LOGIN, START),
        ShellCommand => row("Command in a shell", 8, PROCESS, START),
        SinkState => row("Receiver of events changed", 6, HOST, &["change"]),
        SinkLost => row("Records deleted before they were sent", 8, FILE, &["deletion"]),
    }
}
