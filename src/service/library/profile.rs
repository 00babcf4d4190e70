//! What a template wants a service to be: its protocol, and the product and version that it passes for.

use serde::{Deserialize, Serialize};

/// What a service speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// RFC 4253.
    Ssh,
    /// RFC 959.
    Ftp,
    /// RFC 5321.
    Smtp,
    /// RFC 1939.
    Pop3,
    /// RFC 3501.
    Imap,
    /// RFC 854.
    Telnet,
    /// MySQL's client/server protocol, version 10.
    Mysql,
    /// PostgreSQL's frontend/backend protocol, version 3.
    Postgresql,
    /// RESP, and its inline form.
    Redis,
    /// The first step of MS-RDPBCGR.
    Rdp,
    /// MS-SMB and MS-SMB2.
    Smb,
    /// RFC 6143.
    Vnc,
    /// Modbus Application Protocol over TCP.
    Modbus,
    /// RFC 1459 and RFC 2812.
    Irc,
    /// RFC 1035, of which only who it is.
    Dns,
    /// RFC 5905.
    Ntp,
    /// RFC 1157 and RFC 3416.
    Snmp,
    /// RFC 3261.
    Sip,
}

/// A product that a protocol can pass for: its name, its version unless another is wanted, its host's name.
pub type Product = (&'static str, &'static str, &'static str);

impl Protocol {
    /// Whether the server begins.
    pub fn speaks_first(self) -> bool {
        use Protocol::{Ftp, Imap, Irc, Mysql, Pop3, Smtp, Ssh, Telnet, Vnc};
        matches!(self, Ssh | Ftp | Smtp | Pop3 | Imap | Telnet | Mysql | Vnc | Irc)
    }

    /// Those over TCP, in the order of the documentation.
    pub const TCP: [Protocol; 14] = [
        Protocol::Ssh,
        Protocol::Ftp,
        Protocol::Smtp,
        Protocol::Pop3,
        Protocol::Imap,
        Protocol::Telnet,
        Protocol::Mysql,
        Protocol::Postgresql,
        Protocol::Redis,
        Protocol::Rdp,
        Protocol::Smb,
        Protocol::Vnc,
        Protocol::Modbus,
        Protocol::Irc,
    ];
    /// Those over UDP.
    pub const UDP: [Protocol; 4] = [Protocol::Dns, Protocol::Ntp, Protocol::Snmp, Protocol::Sip];

    /// Its key in a topology.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ssh => "ssh",
            Protocol::Ftp => "ftp",
            Protocol::Smtp => "smtp",
            Protocol::Pop3 => "pop3",
            Protocol::Imap => "imap",
            Protocol::Telnet => "telnet",
            Protocol::Mysql => "mysql",
            Protocol::Postgresql => "postgresql",
            Protocol::Redis => "redis",
            Protocol::Rdp => "rdp",
            Protocol::Smb => "smb",
            Protocol::Vnc => "vnc",
            Protocol::Modbus => "modbus",
            Protocol::Irc => "irc",
            Protocol::Dns => "dns",
            Protocol::Ntp => "ntp",
            Protocol::Snmp => "snmp",
            Protocol::Sip => "sip",
        }
    }

    /// The products that it can pass for; the first unless another is wanted.
    pub fn products(self) -> &'static [Product] {
        match self {
            Protocol::Ssh => &[("openssh", "9.2p1 Debian-2+deb12u3", ""), ("dropbear", "2022.83", "")],
            Protocol::Ftp => &[
                ("vsftpd", "3.0.3", ""),
                ("proftpd", "1.3.8", "ftp"),
                ("pure-ftpd", "", ""),
                ("filezilla", "1.7.3", ""),
                ("microsoft", "", ""),
            ],
            Protocol::Smtp => &[("postfix", "", "mail"), ("exim", "4.96", "mail"), ("sendmail", "8.17.1", "mail")],
            Protocol::Pop3 | Protocol::Imap => &[("dovecot", "", ""), ("cyrus", "2.5.10", "mail")],
            Protocol::Telnet => &[("busybox", "", "gateway"), ("linux", "", "server"), ("cisco", "", "")],
            Protocol::Mysql => {
                &[("mysql", "8.0.39-0ubuntu0.22.04.1", ""), ("mariadb", "10.11.6-MariaDB-0+deb12u1", "")]
            }
            Protocol::Postgresql => &[("postgresql", "15", "")],
            Protocol::Redis => &[("redis", "7.0.15", "")],
            Protocol::Rdp => &[("windows", "", ""), ("xrdp", "", "")],
            Protocol::Smb => &[("samba", "", "FILES"), ("windows", "", "DESKTOP-7Q2K1")],
            Protocol::Vnc => &[("vnc", "3.8", "")],
            Protocol::Modbus => &[("M221", "V1.6.2.0", "")],
            Protocol::Irc => {
                &[("inspircd", "2.0.29", "irc"), ("unrealircd", "3.2.10.6", "irc"), ("ngircd", "26.1", "irc")]
            }
            Protocol::Dns => &[
                ("bind", "9.18.28-1~deb12u2-Debian", ""),
                ("dnsmasq", "2.90", ""),
                ("unbound", "1.17.1", ""),
                ("nsd", "4.6.1", ""),
            ],
            Protocol::Ntp => &[("ntpd", "4.2.8p15", "")],
            Protocol::Snmp => &[("net-snmp", "", "server")],
            Protocol::Sip => &[("asterisk", "20.6.0", ""), ("opensips", "3.4.2", "")],
        }
    }

    /// Whether `product` may be anything: where it is only shown, not acted upon.
    pub fn takes_any_product(self) -> bool {
        self == Protocol::Modbus
    }

    /// The keys besides `product` and `banner` that say something to it.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Protocol::Ssh | Protocol::Mysql | Protocol::Postgresql | Protocol::Redis | Protocol::Vnc => &["version"],
            Protocol::Modbus | Protocol::Dns | Protocol::Ntp | Protocol::Sip => &["version"],
            Protocol::Ftp | Protocol::Smtp | Protocol::Pop3 | Protocol::Imap | Protocol::Irc => {
                &["version", "hostname"]
            }
            Protocol::Telnet => &["hostname"],
            Protocol::Rdp => &[],
            Protocol::Smb => &["hostname", "workgroup"],
            Protocol::Snmp => &["hostname", "community"],
        }
    }

    /// What `banner` replaces; nothing where there is none.
    pub fn banner(self) -> Option<&'static str> {
        match self {
            Protocol::Ssh => Some("the identification line"),
            Protocol::Ftp | Protocol::Smtp | Protocol::Pop3 | Protocol::Imap => Some("the greeting"),
            Protocol::Irc => Some("the notices before registration"),
            Protocol::Telnet => Some("what stands above the login prompt"),
            Protocol::Dns => Some("the answer to version.bind"),
            Protocol::Snmp => Some("sysDescr"),
            Protocol::Sip => Some("the Server header"),
            _ => None,
        }
    }
}

/// What a service passes for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// What it speaks.
    pub protocol: Protocol,
    /// One of [`Protocol::products`].
    pub product: String,
    /// Its version; empty where the product tells none.
    pub version: String,
    /// The name that its host gives itself.
    pub hostname: String,
    /// What it says of itself in the place of what product and version make.
    pub banner: Option<String>,
    /// The workgroup or domain of a file server.
    pub workgroup: String,
    /// The communities that a manager may know.
    pub communities: Vec<String>,
}

impl Profile {
    /// A service as `product` is without further wishes; of the protocol's usual product if there is no such.
    pub fn new(protocol: Protocol, product: Option<&str>) -> Profile {
        let products = protocol.products();
        let known = products.iter().find(|(name, ..)| Some(*name) == product).or(products.first());
        let (name, version, hostname) = known.copied().unwrap_or_default();
        Profile {
            protocol,
            product: product.unwrap_or(name).to_owned(),
            version: version.to_owned(),
            hostname: hostname.to_owned(),
            banner: None,
            workgroup: "WORKGROUP".to_owned(),
            communities: vec!["public".to_owned()],
        }
    }

    /// Whether it passes for `product`.
    pub(super) fn is(&self, product: &str) -> bool {
        self.product == product
    }
}
