//! What is made inside containers, told from outside: executables, directories, pipes, and sockets that wait for datagrams or see
//! more than what is sent to them. What makes them is what an intruder has: `cp`, `mkdir`, `mknod`, `nc`, `ping`, `arping`.

use serde_json::{Value, json};

use crate::hunter;
use crate::inside::{told, wait_told};
use crate::lab::Lab;
use crate::shell::shell;

#[test]
fn what_is_made_inside_is_told_by_what_it_has_become() {
    let lab = hunter::lab(Lab::shared());
    let host = "192.0.2.23";
    // What is over is there twice, and has its mode from the first.
    shell(
        &lab.attacker,
        host,
        "umask 022; cd /tmp; cp /bin/true worm; chmod 700 worm; cp /bin/true worm; mkdir .x; mkdir -p .x/y; mknod pipe p; mknod sda b 8 0 2>/dev/null; mknod /dev/gone c 0 0; strace -o /dev/null /bin/true >traced; (setsid nc.openbsd -u -l 4444 >/dev/null 2>&1 </dev/null &); \
         ping -c 1 -W 1 192.0.2.2 >/dev/null; arping -c 1 -w 1 -I eth0 192.0.2.2 >/dev/null; nslookup -timeout=1 x 192.0.2.2 >/dev/null 2>&1; \
         while ! grep -q ':115C ' /proc/net/udp /proc/net/udp6; do :; done; rmdir .x/y",
    );
    wait_told(&lab, "container.file", host, |object| object["did"] == "delete" && object["path"] == ".x/y");
    let files: Vec<Value> = told(&lab, "container.file", host).into_iter().map(|(_, object)| object).collect();
    let of = |did: &str, path: &str| -> Vec<&Value> {
        files.iter().filter(|file| file["did"] == did && file["path"] == path && file["dir"] == "/tmp").collect()
    };
    let modes = |did: &str, path: &str| of(did, path).into_iter().map(|file| file["mode"].clone()).collect::<Vec<_>>();
    assert_eq!(modes("open", "worm"), [json!("0755"), Value::Null], "{files:#?}");
    assert_eq!(modes("open", "traced"), [json!("0644")], "{files:#?}");
    assert_eq!(modes("executable", "worm"), [json!("0700")], "{files:#?}");
    assert_eq!([modes("mkdir", ".x"), modes("mkdir", ".x/y")], [[json!("0755")], [json!("0755")]], "{files:#?}");
    let [pipe] = of("mknod", "pipe")[..] else { panic!("{files:#?}") };
    assert_eq!((&pipe["kind"], &pipe["mode"], &pipe["name"]), (&json!("fifo"), &json!("0644"), &json!("mknod")));
    let gone = files.iter().find(|file| file["did"] == "mknod" && file["path"] == "/dev/gone");
    let gone = gone.unwrap_or_else(|| panic!("{files:#?}"));
    assert_eq!((&gone["kind"], &gone["device"]), (&json!("character"), &json!("0:0")), "{gone}");
    // No container may have a disk.
    assert_eq!(of("mknod", "sda"), [&Value::Null; 0]);

    let (listen, object) = wait_told(&lab, "container.listen", host, |object| object["port"] == 4444);
    assert_eq!((&object["protocol"], &object["ip"]), (&json!("udp"), &json!("0.0.0.0")), "{object}");
    for (family, protocol, name) in [("ipv4", "icmp", "ping"), ("packet", "none", "arping")] {
        let (raw, object) = wait_told(&lab, "container.raw", host, |object| object["name"] == name);
        assert_eq!((&object["family"], &object["protocol"]), (&family.into(), &protocol.into()), "{object}");
        assert_eq!((&raw["session"], &raw["src"]["ip"]), (&listen["session"], &json!("192.0.2.2")));
    }
    // Who asks is no one who waits.
    let ports = told(&lab, "container.listen", host);
    assert!(ports.iter().all(|(_, object)| object["port"] == 4444 || object["protocol"] == "tcp"), "{ports:#?}");

    let session = listen["session"].as_str().unwrap();
    let shown = String::from_utf8(lab.command(&["session", "show", session]).stdout).unwrap();
    for part in ["write,create,truncate 0644", "fifo 0644", "packet none", "udp", "mkdir"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    lab.records_are_as_the_schema_says();
}
