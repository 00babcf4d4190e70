//! TLS that begins within a protocol, in front of containers with real servers for mail and files: with some that know nothing of TLS,
//! and with some that have it themselves and are asked for it.

use crate::lab::Lab;
use crate::net::Ns;

/// The same servers twice: in clear at `.10`, with TLS of their own at `.11`.
const TOPOLOGY: &str = r#"
name: later
templates:
  clear:
    personality: linux
    tcp:
      21: {container: ftp, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true, inside: clear}
      110: {container: pop3, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true, inside: clear}
    backend: {image: clear}
  sealed:
    personality: linux
    tcp:
      21: {container: ftp, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true}
      25: {container: smtp, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true}
      110: {container: pop3, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true}
      143: {container: imap, tls: {subject: {cn: "{sni}", o: ACME}}, starttls: true}
    backend: {image: sealed}
images:
  clear: {recipe: ./clear}
  sealed: {recipe: ./sealed}
nodes:
  wan: {kind: uplink}
  core: {kind: switch, ports: 3}
  clear: {kind: host, address: 192.0.2.10, template: clear}
  sealed: {kind: host, address: 192.0.2.11, template: sealed}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [clear, "core:2"]
  - endpoints: [sealed, "core:3"]
"#;

const RECIPE: &str = "
packages: [dovecot-pop3d, dovecot-imapd, vsftpd, exim4-daemon-light, ssl-cert]
boot:
  - /bin/mkdir -p -m 0755 /run/lock /run/dovecot /run/vsftpd/empty
services:
  - {name: ftp, port: 21, run: /usr/sbin/vsftpd /etc/vsftpd.conf}
  - {name: smtp, port: 25, run: /usr/sbin/exim4 -bdf -q30m}
  - {name: pop3, port: 110, run: /usr/sbin/dovecot -F}
users:
  - {name: root, password: toor}
  - {name: svogt, password: Sabine1}
decoys:
  - path: /home/svogt/Maildir/cur/1700468213.M1P412.mail:2,S
    owner: svogt
    content: |
      From: Paul Lindner <plindner@example.com>
      Subject: new password for the backup

      It is Herbst!2023.
  - {path: /home/svogt/plan.txt, owner: svogt, content: \"the plan\"}
";

/// Writes the servers' configuration; `$TLS` is `yes` or `no`.
const SERVERS: &str = r#"
cat >/etc/vsftpd.conf <<'CONF'
listen=YES
listen_ipv6=NO
background=NO
anonymous_enable=NO
local_enable=YES
pam_service_name=vsftpd
secure_chroot_dir=/run/vsftpd/empty
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
CONF
cat >/etc/dovecot/conf.d/99-local.conf <<CONF
mail_location = maildir:~/Maildir
disable_plaintext_auth = no
protocols = pop3 imap
listen = *
ssl = $TLS
log_path = /var/log/dovecot.log
default_vsz_limit = 128 M
CONF
cat >/etc/exim4/update-exim4.conf.conf <<'CONF'
dc_eximconfig_configtype='internet'
dc_local_interfaces=''
dc_relay_nets=''
dc_minimaldns='false'
dc_use_split_config='false'
dc_localdelivery='maildir_home'
CONF
printf 'MAIN_HOST_LOOKUP = 127.0.0.1\nDISABLE_IPV6 = true\n' >/etc/exim4/exim4.conf.localmacros
if [ "$TLS" = yes ]; then
    pem=/etc/ssl/certs/ssl-cert-snakeoil.pem key=/etc/ssl/private/ssl-cert-snakeoil.key
    printf 'ssl_enable=YES\nrequire_ssl_reuse=NO\nforce_local_logins_ssl=NO\nforce_local_data_ssl=NO\n' >>/etc/vsftpd.conf
    printf 'rsa_cert_file=%s\nrsa_private_key_file=%s\nssl_ciphers=HIGH\n' $pem $key >>/etc/vsftpd.conf
    printf 'ssl_cert = <%s\nssl_key = <%s\n' $pem $key >>/etc/dovecot/conf.d/99-local.conf
    printf 'MAIN_TLS_ENABLE = yes\n' >>/etc/exim4/exim4.conf.localmacros
    install -m 640 -g Debian-exim $pem /etc/exim4/exim.crt
    install -m 640 -g Debian-exim $key /etc/exim4/exim.key
fi
echo localhost >/etc/mailname
update-exim4.conf
install -d -m 700 -o svogt -g svogt /home/svogt/Maildir/new /home/svogt/Maildir/tmp
chown -R svogt:svogt /home/svogt/Maildir
"#;

fn lab() -> Lab {
    let mut lab = Lab::shared();
    for (name, tls) in [("clear", "no"), ("sealed", "yes")] {
        lab.file(&format!("{name}/recipe.yaml"), &format!("name: {name}{RECIPE}"));
        lab.file(&format!("{name}/tasks/20-servers.sh"), &format!("set -eu\nTLS={tls}\n{SERVERS}"));
    }
    lab.start(TOPOLOGY);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// What openssl shows and hears when it says this within TLS.
fn openssl(from: &Ns, protocol: &str, host: &str, port: u16, said: &str) -> String {
    let client = format!(
        "{{ printf '{said}'; sleep 2; }} | timeout 60 openssl s_client -crlf -quiet -starttls {protocol} -connect {host}:{port} \
         -servername mx.acme.example 2>&1"
    );
    String::from_utf8_lossy(&from.run(&["sh", "-c", &client]).stdout).into_owned()
}

/// What curl gets, which insists on TLS.
fn curl(from: &Ns, args: &[&str]) -> String {
    let output = from.run(&[&["curl", "-skSf", "--max-time", "60", "-u", "svogt:Sabine1"][..], args].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn mail_is_read_and_files_are_fetched_within_tls() {
    let lab = lab();
    let from = &lab.attacker;
    for host in ["192.0.2.10", "192.0.2.11"] {
        let mail = openssl(from, "pop3", host, 110, "USER svogt\\nPASS Sabine1\\nSTAT\\nQUIT\\n");
        assert!(mail.contains("CN = mx.acme.example") && mail.contains("+OK 1 "), "{host}: {mail}");
        lab.wait_told("tls.hello", host, &["mx.acme.example", "ja4"]);
        lab.wait_told("service.login", host, &["svogt", "Sabine1", "true"]);
        assert!(curl(from, &["--ssl-reqd", &format!("pop3://{host}/1")]).contains("Herbst!2023"), "{host}");
        let refused = from.run(&["curl", "-skSf", "--ssl-reqd", "-u", "svogt:wrong", &format!("pop3://{host}/")]);
        assert!(!refused.status.success(), "{host}: {refused:?}");
        lab.wait_told("service.login", host, &["svogt", "wrong", "false"]);

        let files = openssl(from, "ftp", host, 21, "USER svogt\\nPASS Sabine1\\nSYST\\nQUIT\\n");
        assert!(files.contains("CN = mx.acme.example") && files.contains("215 UNIX"), "{host}: {files}");
        lab.wait_told("service.request", host, &["SYST"]);
        // What is fetched goes by a connection of its own.
        let plan = curl(from, &["--ftp-ssl-control", &format!("ftp://{host}/plan.txt")]);
        assert_eq!(plan, "the plan", "{host}");
        lab.wait_told("service.request", host, &["RETR plan.txt"]);
    }
    let host = "192.0.2.11";
    // There that is within TLS, too, which is the container's own.
    let plan = curl(from, &["--ssl-reqd", &format!("ftp://{host}/plan.txt")]);
    assert_eq!(plan, "the plan");
    lab.wait_told("service.request", host, &["PROT P"]);
    let inbox = curl(from, &["--ssl-reqd", &format!("imap://{host}/INBOX?ALL")]);
    assert!(inbox.contains("SEARCH 1"), "{inbox}");
    let letter = lab.file("letter", "Subject: invoice\r\n\r\nPlease pay.\r\n");
    let to = ["--mail-from", "boss@acme.example", "--mail-rcpt", "svogt@localhost", "-T", letter.to_str().unwrap()];
    let sent = from
        .run(&[&["curl", "-skSf", "--max-time", "60", "--ssl-reqd", &format!("smtp://{host}/x")][..], &to].concat());
    assert!(sent.status.success(), "{sent:?}");
    lab.wait_told("service.request", host, &["RCPT TO:<svogt@localhost>"]);
    lab.records_are_as_the_schema_says();
}
