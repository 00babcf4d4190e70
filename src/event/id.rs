//! The stable names of events.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What kind of thing happened. The text form is dotted and stable.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        pub enum EventId { $($(#[$doc])* $name,)* }

        impl EventId {
            /// Every id, in the order of the documentation.
            pub const ALL: &'static [EventId] = &[$(EventId::$name,)*];

            /// The stable dotted name.
            pub fn as_str(self) -> &'static str {
                match self { $(EventId::$name => $text,)* }
            }
        }
    };
}

ids! {
    /// An attacker came back to a host: `src`, `dst`, the time of the first contact.
    SessionStart = "session.start",
    /// A session went idle or was evicted: `count` frames, `bytes_in`, `bytes_out`.
    SessionEnd = "session.end",
    /// First ARP request or neighbor solicitation of a session.
    ArpRequest = "arp.request",
    /// First echo request of a session; `code` is the ICMP type.
    IcmpEcho = "icmp.echo",
    /// A segment that opens or probes a TCP port; `code` is a `PortAnswer`.
    TcpProbe = "tcp.probe",
    /// A handshake was completed with an open port.
    TcpOpen = "tcp.open",
    /// A connection ended: `bytes_in`, `bytes_out`, `count` microseconds after its handshake;
    /// `code` 0 closed, 1 reset by the peer, 2 reset by us, 3 timed out, 4 evicted.
    TcpClose = "tcp.close",
    /// First octets of a connection, as data.
    TcpData = "tcp.data",
    /// A datagram to a host, its first octets as data; `code` is a `PortAnswer`.
    UdpDatagram = "udp.datagram",
    /// A request that an inline service understood, as data (an HTTP request line and headers).
    ServiceRequest = "service.request",
    /// A script, a proxy target or a container did not take a connection; why is in the data.
    ServiceFailed = "service.failed",
    /// A container is being started for `dst` because of `src`.
    ContainerStart = "container.start",
    /// It answers; `count` is the time it took in microseconds.
    ContainerLive = "container.live",
    /// It did not start or did not answer; why is in the data. `count` is the time since it was asked for in
    /// microseconds.
    ContainerFailed = "container.failed",
    /// It is gone; why is in the data. `count` is the time since it was asked for in
    /// microseconds.
    ContainerStop = "container.stop",
    /// A container began a flow by itself: `src` is the container's host. Beyond so many, `count` flows in one second.
    OutwardFlow = "outward.flow",
    /// A flow from a container was answered by an emulated host inside instead.
    OutwardReflect = "outward.reflect",
    /// A flow from a container was discarded by its template's policy; `code` 1 if by its limit, as `count` frames in one
    /// second.
    OutwardDrop = "outward.drop",
    /// The uplink guard kept a frame from leaving; `code` is a `DropReason`.
    GuardBlock = "guard.block",
    /// A device went down, vanished or came back; the text is in the data.
    DeviceState = "device.state",
    /// A node panicked: its batch was discarded and it goes on; the message is in the data.
    NodePanic = "node.panic",
    /// A process of honeyweave's own ended or was started; the text is in the data.
    ProcessState = "process.state",
    /// `count` events were lost before this one.
    Gap = "gap",
    /// The oldest file of the event log was deleted to keep the log within its limit: `count` records.
    LogDeleted = "log.deleted",
    /// A client tried to log in to an inline service: how, as whom and with what is in the data, as a JSON object.
    ServiceLogin = "service.login",
    /// A client began to speak TLS to an inline service: what its ClientHello shows is in the data, as a JSON object.
    TlsHello = "tls.hello",
    /// A population took the address `dst`, for which nobody answered; `src` looked for it, `count` times.
    AddressClaimed = "address.claimed",
    /// It let go of it; `code` is a `Release`. `src` is who has it now, if somebody has.
    AddressReleased = "address.released",
    /// The host `dst` has leased its address from the server `src`, for `count` seconds.
    DhcpLeased = "dhcp.leased",
    /// It lost that address; `code` is a `dhcp::Loss`. `src` is the server, or whoever uses the address, too.
    DhcpLost = "dhcp.lost",
    /// An address that was leased to the host `dst` is another's, `src`; the server was told.
    DhcpDeclined = "dhcp.declined",
    /// What a server, `src`, said to the host `dst` was not believed; `code` is a `dhcp::Refusal`. At most one a minute.
    DhcpRefused = "dhcp.refused",
    /// A container's processes were frozen, as nobody has spoken to it for a while: `dst`.
    ContainerFrozen = "container.frozen",
    /// They go on: `src` speaks to it, or it is to end.
    ContainerThawed = "container.thawed",
    /// The files of a container that was stopped are gone: in the data are the name of the archive of what was changed in
    /// it (empty if there is none), a zero octet, and why. `dst` is its host.
    ContainerDestroyed = "container.destroyed",
    /// `src` has been given as many containers as one source may have, `count` of them: its connections wait. At most one a
    /// minute.
    ContainerHeld = "container.held",
    /// The gate of the container of `src` kept frames from everybody; `code` is a `Blocked`. `count` frames in one second.
    GateBlock = "gate.block",
    /// What was changed in the container of `dst` was taken, `count` changes; in the data are the archive's name, a zero
    /// octet, and how.
    EvidenceTaken = "evidence.taken",
    /// It was not; in the data are a zero octet, why, and what follows from that.
    EvidenceFailed = "evidence.failed",
    /// `count` archives and samples went because they were old or there was too much; in the data are a zero octet and
    /// more about that.
    EvidenceDeleted = "evidence.deleted",
    /// What was changed in the container of `dst` by the time that it rested was listed, `count` changes; in the data are a
    /// zero octet, and how far.
    EvidenceListed = "evidence.listed",
    /// A client said what it is, in a connection that honeyweave is in the middle of, as are those below; what it said is
    /// in the data, as a JSON object.
    SshHello = "ssh.hello",
    /// It tried to log in: as whom, with what, and whether that let it in.
    SshLogin = "ssh.login",
    /// It began a shell or a subsystem.
    SshShell = "ssh.shell",
    /// It ran a command, not in a shell.
    SshCommand = "ssh.command",
    /// It moved a file.
    SshFile = "ssh.file",
    /// It wanted a connection or a port beyond the host.
    SshForward = "ssh.forward",
    /// The connection is over: `bytes_in`, `bytes_out`, `count` microseconds after its beginning; what there was in it is
    /// in the data.
    SshClose = "ssh.close",
    /// A program was begun in the container of `dst`; `src` is whose connection it descends from. What is known is in the
    /// data, as a JSON object, as in those below.
    ContainerExec = "container.exec",
    /// It is over.
    ContainerExit = "container.exit",
    /// A file was opened for more than reading, removed, renamed, linked, cut or made executable, or a directory or a device was
    /// made.
    ContainerFile = "container.file",
    /// A TCP connection was begun inside.
    ContainerConnect = "container.connect",
    /// A port was opened inside, of TCP or for datagrams.
    ContainerListen = "container.listen",
    /// A socket was made inside that sees more than what is sent to it.
    ContainerRaw = "container.raw",
    /// `count` of these, or of what was said to the log, are not told one by one, as there were too many; which is in the data.
    ContainerUntold = "container.untold",
    /// Connections are not recorded, or not all of what is in them; why is in the data.
    RecordingFailed = "recording.failed",
    /// Recordings of `count` sessions were deleted to keep all of them within their limit; why is in the data.
    RecordingDeleted = "recording.deleted",
    /// A command was typed into a shell, in a connection that honeyweave is in the middle of; it is in the data, as a JSON
    /// object.
    ShellCommand = "shell.command",
    /// A receiver of records does not take them, or does again; which and why is in the data.
    SinkState = "sink.state",
    /// The log deleted `count` records before they were sent to a receiver; to which is in the data.
    SinkLost = "sink.lost",
    /// `count` captures were deleted to keep them within their limits, or a full disk from taking nothing; why is in the
    /// data.
    CaptureDeleted = "capture.deleted",
    /// A sensor that listens to a mirror saw something: what its rule says is in the data, as a JSON object.
    IdsAlert = "ids.alert",
    /// A program in the container of `dst` said something to the log; what is in the data, as a JSON object.
    ContainerLog = "container.log",
    /// A program in the container of `dst` said that somebody logged in, or did not, or became somebody else; `src` is where
    /// from, by its words. The rest is in the data, as a JSON object.
    ContainerLogin = "container.login",
    /// An SSH client wished for a variable of the environment; which is in the data, as a JSON object.
    SshEnv = "ssh.env",
    /// What an SSH client ran in a channel is over, `count` microseconds after it began: `bytes_in`, `bytes_out`, and a JSON
    /// object as data.
    SshExit = "ssh.exit",
    /// The first octets that an SSH client sent through a connection beyond the host; they and where to are in the data, as
    /// a JSON object.
    SshForwardData = "ssh.forward.data",
    /// A client has shown a certificate, within TLS, and that it has its key: what it is is in the data, as a JSON object.
    TlsCertificate = "tls.certificate",
    /// A Telnet client was let in: what is known of its terminal is in the data, as a JSON object.
    TelnetShell = "telnet.shell",
    /// It is over, `count` microseconds after it was let in: `bytes_in`, `bytes_out`, and a JSON object as data.
    TelnetExit = "telnet.exit",
}

impl EventId {
    /// Whether a single frame from anywhere, its source forged, brings it about: when there are more than are written
    /// down, those are left out before others.
    #[inline]
    pub fn is_bulk(self) -> bool {
        use EventId::{ArpRequest, IcmpEcho, SessionEnd, SessionStart, TcpProbe, UdpDatagram};
        matches!(self, SessionStart | SessionEnd | ArpRequest | IcmpEcho | TcpProbe | UdpDatagram)
    }
}

impl EventId {
    /// Octets that may go along with it: [`MAX_DATA`](super::MAX_DATA), and more where what tells clients apart is longer
    /// than that. These come from who records, not through the ring.
    pub fn most_data(self) -> usize {
        match self {
            EventId::SshHello => super::MAX_LISTS,
            EventId::SshLogin => super::MAX_KEY,
            _ => super::MAX_DATA,
        }
    }
}

impl EventId {
    /// Whether it was seen from outside while it happened inside a container.
    pub fn is_inside(self) -> bool {
        use EventId::{
            ContainerConnect, ContainerExec, ContainerExit, ContainerFile, ContainerListen, ContainerLog,
            ContainerLogin, ContainerRaw, ContainerUntold,
        };
        matches!(
            self,
            ContainerExec
                | ContainerExit
                | ContainerFile
                | ContainerConnect
                | ContainerListen
                | ContainerRaw
                | ContainerLog
                | ContainerLogin
                | ContainerUntold
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_and_distinct() {
        let mut seen = std::collections::HashSet::new();
        for id in EventId::ALL {
            assert!(seen.insert(id.as_str()), "{id:?}");
            assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'.'));
        }
    }
}
