//! What was typed about the ports of hosts.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::at::{At, Map, Text, Texts, pack};
use super::error::suggest;
use super::raw::mapping;
use super::raw_tls::TlsEntry;
use super::source::Span;

/// How ports without an entry meet a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortDefault {
    /// RST, or ICMP port unreachable.
    Closed,
    /// Silence.
    Filtered,
}

/// A TCP port's answer in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TcpWord {
    /// RST.
    Closed,
    /// Silence.
    Filtered,
    /// A connection, then a window that never opens.
    Tarpit,
    /// A connection that takes what comes and says nothing.
    Open,
    /// The host's container, at the same port.
    Container,
}

/// What is spoken in a connection that somebody is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MiddleWord {
    /// SSH.
    Ssh,
    /// Anything in the clear.
    Raw,
    /// HTTP/1.
    Http,
    /// Telnet.
    Telnet,
    /// FTP's control connection.
    Ftp,
    /// SMTP.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP.
    Imap,
    /// Redis.
    Redis,
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgresql,
}

/// How a container is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InsideWord {
    /// By TLS.
    Tls,
    /// In the clear.
    Clear,
}

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OpensWord {
    /// Whom the container's own server lets in.
    Container,
    /// Everybody.
    Any,
    /// Nobody.
    Never,
}

/// A UDP port's answer in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UdpWord {
    /// ICMP port unreachable.
    Closed,
    /// Silence, as if by a firewall.
    Filtered,
    /// Taken without a reply.
    Open,
    /// The host's container, at the same port.
    Container,
}

/// A kind of an SSH server's host key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SshKeyWord {
    /// RSA, of 3,072 bits; of 2,048 if the server calls itself Dropbear.
    Rsa,
    /// ECDSA on P-256.
    Ecdsa,
    /// Ed25519.
    Ed25519,
}

mapping! {
    /// What answers on a TCP port: one of `http`, `banner`, `script`, `proxy` and `container`, or of the library of services.
    struct TcpKeys {
        /// A static web site.
        http: HttpKeys,
        /// SSH.
        ssh: LibraryKeys,
        /// FTP.
        ftp: LibraryKeys,
        /// SMTP, which never takes anything for delivery.
        smtp: LibraryKeys,
        /// POP3.
        pop3: LibraryKeys,
        /// IMAP.
        imap: LibraryKeys,
        /// Telnet.
        telnet: LibraryKeys,
        /// MySQL or MariaDB.
        mysql: LibraryKeys,
        /// PostgreSQL.
        postgresql: LibraryKeys,
        /// Redis.
        redis: LibraryKeys,
        /// RDP, Windows' remote desktop.
        rdp: LibraryKeys,
        /// SMB, file sharing.
        smb: LibraryKeys,
        /// VNC.
        vnc: LibraryKeys,
        /// Modbus over TCP.
        modbus: LibraryKeys,
        /// IRC, a server that nobody else is on.
        irc: LibraryKeys,
        /// Whether it is spoken within TLS: `true`, or what the certificate says.
        tls: TlsEntry,
        /// What is said at once, `\r\n` and all.
        banner: Text,
        /// Time of silence until a banner's connection is closed (default 2m); 0 never.
        close_after: Text,
        /// A program (absolute path) and its arguments; its standard input and output are the connection.
        script: Vec<At<Text>>,
        /// Time that a script may run (default 60s).
        timeout: Text,
        /// How many of a script may run at once (default 32).
        max: u32,
        /// A server that the connection is passed to, `address:port`.
        proxy: Text,
        /// Time until an attempt to reach a proxy's target is given up (default 5s).
        connect_timeout: Text,
        /// Whether the target may lie outside of the honeynet and of this machine (default false).
        allow_production: bool,
        /// The host's container, at the same port, with somebody in the middle who records what is said: `ssh`, `http`, `telnet`, `ftp`, `smtp`, `pop3`, `imap`, `redis`, `mysql`, `postgresql` or `raw`.
        container: MiddleWord,
        /// Who is let into a container by SSH (default `container`).
        opens: OpensWord,
        /// Let in is whoever has one of these: passwords by user.
        passwords: Map<At<Texts>>,
        /// Let in is whoever tries another password after so many were refused, 1 to 100.
        after: u32,
        /// `user:password` by which to log in inside, unless `opens: container` (default: the image's first account).
        login: Text,
        /// Whether the SSH server asks for passwords by keyboard-interactive, too (default false, as Debian's).
        keyboard_interactive: bool,
        /// What the SSH server calls itself (default: as that of the image, `SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3` or `SSH-2.0-dropbear_2022.83`).
        identification: Text,
        /// The host keys of the SSH server (default: `rsa`, `ecdsa` and `ed25519`, as Debian's packages make them).
        host_keys: Vec<At<SshKeyWord>>,
        /// Time that a refused log-in takes at least (default 2s).
        refusal: Text,
        /// Time that it takes at least to be let in (default 300ms): what a container's start hides behind.
        acceptance: Text,
        /// Whether the container speaks `tls` itself (default), or in the clear.
        inside: InsideWord,
        /// Whether TLS begins when the client asks for it (default false): in `smtp`, `imap`, `pop3`, `ftp` and `postgresql`.
        starttls: bool,
        /// What a web server within `tls` calls itself to who does not speak TLS, if it is spoken to in the clear (default: the image's, or `nginx/1.22.1`).
        server: Text,
        /// Whether clients are asked for certificates, of which any is taken (default false).
        client_certificates: bool,
        /// What is kept of each file that is moved by SSH (default 16M), or of each direction of another connection (default 1M).
        keep: Text,
    }
}

mapping! {
    /// What answers on a UDP port.
    struct UdpKeys {
        /// What is sent back to every datagram.
        reply: Text,
        /// A name server, which tells its version and resolves nothing.
        dns: LibraryKeys,
        /// A time server.
        ntp: LibraryKeys,
        /// An SNMP agent with the system group.
        snmp: LibraryKeys,
        /// A telephone exchange.
        sip: LibraryKeys,
    }
}

mapping! {
    /// What a service of the library passes for. Everything has a default.
    struct LibraryKeys {
        /// The product.
        product: Text,
        /// The product's version.
        version: Text,
        /// The name that the host gives itself.
        hostname: Text,
        /// What the service says of itself, in the place of what product and version make.
        banner: Text,
        /// The workgroup or domain of a file server.
        workgroup: Text,
        /// The communities that an SNMP agent answers to.
        community: Texts,
    }
}

mapping! {
    /// A static web site.
    struct HttpKeys {
        /// An application that asks for a password: `login-portal`, `webmail`, `router-admin`.
        app: Text,
        /// The title of an application's pages.
        title: Text,
        /// A folder whose files are pages, relative to the topology.
        directory: Text,
        /// The `Server:` header (default: none, or the application's).
        server: Text,
        /// Pages by path: HTML, or a mapping with `body` or `file` and `type`.
        pages: Map<At<Page>>,
    }
}

mapping! {
    /// A page of a static web site.
    struct PageKeys {
        /// The body.
        body: Text,
        /// A file with the body, relative to the topology.
        file: Text,
        /// Its `Content-Type:` (default: by the path's ending).
        r#type: Text,
    }
}

/// Declares a value that is either a word or a mapping.
macro_rules! word_or_mapping {
    ($(#[$meta:meta])* $name:ident, $word:ty, $keys:ty, $words:expr, $expecting:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub enum $name {
            /// One word.
            Word($word),
            /// A mapping.
            Keys(Box<$keys>),
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Shape;

                impl<'de> Visitor<'de> for Shape {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
                        <$word>::deserialize(word).map($name::Word).map_err(|_| {
                            E::custom(pack(&format!("`{text}` is no {}", $expecting), &suggest(text, $words), None))
                        })
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        <$keys>::deserialize(MapAccessDeserializer::new(map)).map(|keys| $name::Keys(Box::new(keys)))
                    }
                }

                deserializer.deserialize_any(Shape)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let word = generator.subschema_for::<$word>();
                let keys = generator.subschema_for::<$keys>();
                json_schema!({ "description": $expecting, "anyOf": [word, keys] })
            }
        }
    };
}

word_or_mapping!(
    /// How a TCP port meets a SYN.
    TcpEntry,
    TcpWord,
    TcpKeys,
    ["closed", "filtered", "tarpit", "open", "container", "http", "banner", "script", "proxy", "ssh", "ftp", "smtp", "pop3", "imap", "telnet", "mysql", "postgresql", "redis", "rdp", "smb", "vnc", "modbus", "irc"],
    "answer of a TCP port"
);
word_or_mapping!(
    /// How a UDP port meets a datagram.
    UdpEntry,
    UdpWord,
    UdpKeys,
    ["closed", "filtered", "open", "container", "reply", "dns", "ntp", "snmp", "sip"],
    "answer of a UDP port"
);

/// A page: its HTML, or a mapping with more.
#[derive(Clone, Debug)]
pub struct Page(pub PageKeys);

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Page, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Page;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a mapping with `body` or `file`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Page, E> {
                let body = Some(At { value: Text(text.to_owned()), span: Span::default() });
                Ok(Page(PageKeys { body, ..PageKeys::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Page, A::Error> {
                PageKeys::deserialize(MapAccessDeserializer::new(map)).map(Page)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}

impl JsonSchema for Page {
    fn schema_name() -> Cow<'static, str> {
        "Page".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<PageKeys>();
        json_schema!({ "description": "Its HTML, or a mapping with more", "anyOf": [{ "type": "string" }, keys] })
    }
}

pub(super) use word_or_mapping;
