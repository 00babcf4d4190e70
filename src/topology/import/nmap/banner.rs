//! What services say first, or what a web site calls itself, as far as nmap's words tell.
//!
//! nmap takes a greeting apart into product, version and more; here it is put together again, for
//! the products that are common. Where it cannot be, the port is open and says nothing.

use super::xml::Port;
use crate::topology::import::draft::Answer;

/// Longest part of a banner.
const MAX_PART: usize = 64;

/// A part of a banner: printable ASCII, not too long.
fn part(text: &str) -> Option<&str> {
    let text = text.trim();
    let fine = !text.is_empty() && text.len() <= MAX_PART && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    fine.then_some(text)
}

/// How an open TCP port answers.
pub fn of(port: &Port, host: &str) -> Answer {
    let product = part(&port.product);
    let version = part(&port.version);
    let name = [&*port.hostname, host].into_iter().find_map(|name| part(name).filter(|name| !name.contains(' ')));
    let name = name.unwrap_or("mail");
    let said = match &*port.service {
        "ssh" => ssh(product, version),
        "ftp" => ftp(product, version),
        "smtp" | "smtps" | "submission" => smtp(product, version, name),
        "pop3" => product.map(|product| match product {
            "Dovecot pop3d" => "+OK Dovecot ready.".to_owned(),
            _ => "+OK POP3 server ready".to_owned(),
        }),
        "imap" => product.map(|product| match product {
            "Dovecot imapd" => {
                "* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Dovecot ready."
                    .to_owned()
            }
            _ => "* OK IMAP4rev1 server ready".to_owned(),
        }),
        "http" | "https" | "http-alt" | "http-proxy" => {
            return Answer::Http(server(product, version, part(&port.extra)));
        }
        _ => None,
    };
    said.map_or(Answer::Open, |said| Answer::Banner(said + "\r\n"))
}

/// The identification of RFC 4253, 4.2.
fn ssh(product: Option<&str>, version: Option<&str>) -> Option<String> {
    let (product, version) = (product?, version?);
    // A distribution's revision is a comment of its own: `9.2p1 Debian 2+deb12u3`.
    let (number, comment) = match version.split_once(' ') {
        Some((number, comment)) => (number, format!(" {}", comment.replace(' ', "-"))),
        None => (version, String::new()),
    };
    match product {
        "OpenSSH" => Some(format!("SSH-2.0-OpenSSH_{number}{comment}")),
        "OpenSSH for_Windows" => Some(format!("SSH-2.0-OpenSSH_for_Windows_{number}")),
        "Dropbear sshd" => Some(format!("SSH-2.0-dropbear_{number}")),
        "Cisco SSH" => Some(format!("SSH-2.0-Cisco-{number}")),
        "libssh" => Some(format!("SSH-2.0-libssh_{number}")),
        _ => None,
    }
}

fn ftp(product: Option<&str>, version: Option<&str>) -> Option<String> {
    let product = product?;
    Some(match (product, version) {
        ("vsftpd", Some(version)) => format!("220 (vsFTPd {version})"),
        ("ProFTPD", Some(version)) => format!("220 ProFTPD {version} Server ready."),
        ("Pure-FTPd", _) => "220 Welcome to Pure-FTPd [privsep] [TLS]".to_owned(),
        ("Microsoft ftpd", _) => "220 Microsoft FTP Service".to_owned(),
        ("FileZilla ftpd", Some(version)) => format!("220-FileZilla Server {version}\r\n220 ready"),
        (other, Some(version)) => format!("220 {other} {version} ready"),
        (other, None) => format!("220 {other} ready"),
    })
}

fn smtp(product: Option<&str>, version: Option<&str>, host: &str) -> Option<String> {
    let product = product?;
    Some(match (product, version) {
        ("Postfix smtpd", _) => format!("220 {host} ESMTP Postfix"),
        ("Exim smtpd", Some(version)) => format!("220 {host} ESMTP Exim {version}"),
        ("Sendmail", Some(version)) => format!("220 {host} ESMTP Sendmail {version}"),
        (other, _) if other.contains("Microsoft") => format!("220 {host} Microsoft ESMTP MAIL Service ready"),
        (other, Some(version)) => format!("220 {host} ESMTP {} {version}", other.trim_end_matches(" smtpd")),
        (other, None) => format!("220 {host} ESMTP {}", other.trim_end_matches(" smtpd")),
    })
}

/// The `Server:` header.
fn server(product: Option<&str>, version: Option<&str>, extra: Option<&str>) -> Option<String> {
    let product = product?;
    let name = match product {
        "Apache httpd" => "Apache",
        "Microsoft IIS httpd" => "Microsoft-IIS",
        "Microsoft HTTPAPI httpd" => "Microsoft-HTTPAPI",
        other => other.trim_end_matches(" httpd"),
    };
    let system = match (product, extra) {
        // nmap writes `(Debian)` as the header has it.
        ("Apache httpd", Some(extra)) if extra.starts_with('(') => format!(" {extra}"),
        _ => String::new(),
    };
    Some(match version {
        Some(version) => format!("{name}/{version}{system}"),
        None => format!("{name}{system}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(service: &str, product: &str, version: &str, extra: &str) -> Answer {
        let port = Port {
            service: service.to_owned(),
            product: product.to_owned(),
            version: version.to_owned(),
            extra: extra.to_owned(),
            ..Port::default()
        };
        of(&port, "mx.example.org")
    }

    #[test]
    fn greetings_are_put_together_again() {
        for (service, product, version, banner) in [
            ("ssh", "OpenSSH", "9.2p1 Debian 2+deb12u3", "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"),
            ("ssh", "OpenSSH", "8.9p1 Ubuntu 3ubuntu0.1", "SSH-2.0-OpenSSH_8.9p1 Ubuntu-3ubuntu0.1\r\n"),
            ("ssh", "Dropbear sshd", "2022.83", "SSH-2.0-dropbear_2022.83\r\n"),
            ("ftp", "vsftpd", "3.0.3", "220 (vsFTPd 3.0.3)\r\n"),
            ("smtp", "Postfix smtpd", "", "220 mx.example.org ESMTP Postfix\r\n"),
            ("pop3", "Dovecot pop3d", "", "+OK Dovecot ready.\r\n"),
        ] {
            assert_eq!(said(service, product, version, ""), Answer::Banner(banner.to_owned()), "{product}");
        }
        for (product, version, extra, header) in [
            ("nginx", "1.22.1", "", "nginx/1.22.1"),
            ("Apache httpd", "2.4.57", "(Debian)", "Apache/2.4.57 (Debian)"),
            ("Microsoft IIS httpd", "10.0", "", "Microsoft-IIS/10.0"),
        ] {
            assert_eq!(said("http", product, version, extra), Answer::Http(Some(header.to_owned())));
        }
        for (service, product, version) in
            [("ssh", "", ""), ("ssh", "OpenSSH", "9\u{1b}[2J"), ("telnet", "Linux telnetd", ""), ("smtp", "", "")]
        {
            assert_eq!(said(service, product, version, ""), Answer::Open, "{service}");
        }
        assert_eq!(said("http", "", "", ""), Answer::Http(None));
    }
}
