//! Two intruders, by real clients: what either of them changed is told apart, in one container and in one of each.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::lab::{Lab, PROGRAM};
use crate::net::{Ns, sh};

const TOPOLOGY: &str = r#"
name: differences
templates:
  shell:
    personality: linux
    tcp: {22: {container: ssh, opens: any}}
    backend: {image: small, freeze: 1s, idle: 10m}
images:
  small: {recipe: small, users: [{name: root, password: toor}]}
nodes:
  lan: {kind: uplink}
  shells: {kind: hosts, addresses: 10.31.0.20-10.31.0.21, template: shell}
  core: {kind: switch, ports: 2}
links:
  - endpoints: [lan, "core:1"]
  - endpoints: [shells, "core:2"]
"#;

const HOST: &str = "10.31.0.20";
const SCRIPT: &str = "#!/bin/sh\nid\n";

/// Runs a command on the host from one of the attacker's addresses.
fn ssh(from: &Ns, address: &str, command: &str) -> String {
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let to = format!("root@{HOST}");
    let args = [&["sshpass", "-p", "toor", "ssh", "-T", "-b", address][..], &options, &[&to, command]].concat();
    let output = from.run(&args);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The session of whoever has that address.
fn session_of(lab: &Lab, address: &str) -> String {
    let listed = lab.json(&["session", "ls", "--attacker", address, "--host", HOST]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    listed[0]["session"].as_str().unwrap().to_owned()
}

/// Waits until the container is frozen for the time `count` and what was changed is listed.
fn rested(lab: &Lab, count: usize) {
    crate::net::wait_for("that it rests and is listed", || {
        let events = lab.events();
        let told = |id: &str| events.iter().filter(|event| event["event"] == id && event["dst"]["ip"] == HOST).count();
        (told("container.frozen") >= count && told("evidence.listed") >= count).then_some(())
    });
}

fn diff(lab: &Lab, id: &str) -> Value {
    let told = lab.json(&["session", "diff", id]);
    assert_eq!(told["containers"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(told["containers"][0]["windows"].as_array().map(Vec::len), Some(1), "{told}");
    told["containers"][0]["windows"][0].clone()
}

fn change<'a>(window: &'a Value, path: &str) -> &'a Value {
    let found = window["changes"].as_array().unwrap().iter().find(|change| change["path"] == path);
    found.unwrap_or_else(|| panic!("no {path} in {window}"))
}

fn has(window: &Value, path: &str) -> bool {
    window["changes"].as_array().unwrap().iter().any(|change| change["path"] == path)
}

#[test]
fn each_intruder_is_told_its_own_changes() {
    let mut lab = Lab::up(TOPOLOGY);
    lab.attacker.addr("eth0", "10.31.0.2/24");
    lab.attacker.addr("eth0", "10.31.0.3/24");
    let changes = "set -e
        printf '#!/bin/sh\\nid\\n' >/root/run; chmod 755 /root/run
        chmod 4755 /etc/profile
        rm /etc/issue
        echo 'backdoor:x:0:0::/:/bin/sh' >>/etc/passwd
        echo x >\"/root/$(printf 'odd\\nname\\033[2J')\"
        echo done";
    assert_eq!(ssh(&lab.attacker, "10.31.0.2", changes), "done\n");
    rested(&lab, 1);
    assert_eq!(ssh(&lab.attacker, "10.31.0.3", "echo y >/root/other; chmod 700 /root/run; echo done"), "done\n");
    rested(&lab, 2);
    let (first, second) = (session_of(&lab, "10.31.0.2"), session_of(&lab, "10.31.0.3"));
    assert_ne!(first, second);

    let own = diff(&lab, &first);
    assert_eq!((&own["with"], &own["partial"]), (&Value::Array(vec![]), &Value::Bool(false)), "{own}");
    let hash = hex(&Sha256::digest(SCRIPT));
    let run = change(&own, "/root/run");
    assert_eq!(
        (&run["change"], &run["mode"], &run["sample"]),
        (&"added".into(), &"0755".into(), &true.into()),
        "{run}"
    );
    assert_eq!((run["sha256"].as_str(), run["size"].as_u64()), (Some(&*hash), Some(SCRIPT.len() as u64)), "{run}");
    assert_eq!(change(&own, "/etc/profile")["differs"], serde_json::json!(["mode"]));
    assert_eq!(change(&own, "/etc/issue")["change"], "deleted");
    assert_eq!(change(&own, "/etc/passwd")["differs"][0], "content");
    assert!(!has(&own, "/root/other"), "{own}");
    let others = diff(&lab, &second);
    assert_eq!(change(&others, "/root/other")["change"], "added");
    let run = change(&others, "/root/run");
    assert_eq!((&run["differs"], &run["was"]["mode"]), (&serde_json::json!(["mode"]), &"0755".into()), "{run}");
    assert!(!["/etc/passwd", "/etc/issue", "/etc/profile"].iter().any(|path| has(&others, path)), "{others}");

    // What the container does by itself is there, and nobody is told of it.
    assert!(
        own["changes"].as_array().unwrap().iter().all(|change| {
            let is_own = change["path"].as_str().unwrap().starts_with("/run/");
            change["by"].is_string() == is_own
        }),
        "{own}"
    );
    let by = &change(&own, "/run/dropbear.pid")["by"];
    assert!(*by == "itself" || *by == "start", "{own}");

    let shown = String::from_utf8(lab.command(&["session", "diff", &first]).stdout).unwrap();
    let start = shown.find("by the container's own start").or(shown.find("that descend from no connection:"));
    assert!(start < shown.find("/run/dropbear.pid") && shown.find("/etc/passwd") < start, "{shown}");
    let line = |path: &str| shown.lines().find(|line| line.contains(path)).unwrap_or_else(|| panic!("{path}: {shown}"));
    assert!(line("/root/run").starts_with("+ file") && line("/root/run").contains(&hash[..12]), "{shown}");
    assert!(line("/etc/issue").starts_with("- file") && line("/etc/passwd").starts_with("~ file"), "{shown}");
    assert!(shown.contains("/root/odd\\x0aname\\x1b[2J") && !shown.contains('\u{1b}'), "{shown:?}");
    let all = lab.json(&["session", "diff", &second, "--all"]);
    let whole = &all["containers"][0]["windows"][0];
    assert!(has(whole, "/root/other") && has(whole, "/etc/issue"), "{whole}");
    assert_eq!(whole["with"], serde_json::json!([first]));

    exported(&lab, &first, &hash, "live");
    // At the end it is the same, but for what was listed last.
    lab.down();
    exported(&lab, &first, &hash, "ended");
    let told = lab.json(&["session", "diff", &first]);
    assert_eq!(told["containers"][0]["unlisted"], false, "{told}");
    assert!(has(&told["containers"][0]["windows"][0], "/root/run"), "{told}");
}

/// As nginx does: a server that is ready after SSH has answered makes its directories, and gives them away.
const LATE: &str = "\
name: late
about: SSH, and a server that is slower
method: unpack
packages: [busybox-static, dropbear-bin, libc-bin]
services:
  - { name: ssh, port: 22, run: '/bin/sh -c \"exec dropbear -F -p 22\"' }
  - { name: late, port: 80, run: /bin/late }
users:
  - { name: root, password: toor }
files:
  - path: /bin/late
    mode: 0o755
    content: |
      #!/bin/sh
      until /bin/busybox grep -q ':0016 .* 01 ' /proc/net/tcp /proc/net/tcp6; do /bin/busybox usleep 50000; done
      for name in body fastcgi proxy; do
        /bin/busybox mkdir -p -m 0700 /var/lib/late/$name
        /bin/busybox chown 33:0 /var/lib/late/$name
      done
      exec /bin/busybox httpd -f -p 80 -h /var/lib/late
";

#[test]
fn what_a_server_makes_as_it_starts_late_is_nobodys_who_is_there_by_then() {
    let mut lab = Lab::shared();
    lab.file("late/recipe.yaml", LATE);
    lab.start(&TOPOLOGY.replace("recipe: small", "recipe: ./late"));
    lab.attacker.addr("eth0", "10.31.0.2/24");
    let wait = "while ! [ -d /var/lib/late/proxy ]; do :; done; while pidof late; do :; done; mkdir -m 700 /root/mine; echo done";
    assert!(ssh(&lab.attacker, "10.31.0.2", wait).ends_with("done\n"));
    rested(&lab, 1);
    let own = diff(&lab, &session_of(&lab, "10.31.0.2"));
    let by = |path: &str| change(&own, path)["by"].clone();
    assert_eq!(by("/root/mine"), Value::Null, "{own}");
    for name in ["", "/body", "/fastcgi", "/proxy"] {
        assert_eq!(by(&format!("/var/lib/late{name}")), "itself", "{own}");
    }
}

/// Neighbors in one network, with a machine of each: no file has more than the network, and what either of them did is known.
#[test]
fn attackers_whose_addresses_are_truncated_have_machines_of_their_own() {
    let topology = TOPOLOGY.replace("image: small,", "image: small, grant: per-attacker,");
    let mut lab = Lab::up(&format!("privacy: {{truncate_addresses: true}}\n{topology}"));
    let session = |address: &str, file: &str| {
        lab.attacker.addr("eth0", &format!("{address}/24"));
        assert_eq!(ssh(&lab.attacker, address, &format!("echo x >/root/{file}; echo done")), "done\n");
        let event =
            lab.wait_event("ssh.command", |event| event["text"].as_str().is_some_and(|text| text.contains(file)));
        assert_eq!(event["src"]["ip"], "10.31.0.0", "{event}");
        event["session"].as_str().unwrap().to_owned()
    };
    let (first, second) = (session("10.31.0.2", "first"), session("10.31.0.3", "second"));
    rested(&lab, 2);
    for (id, own, others) in [(&first, "/root/first", "/root/second"), (&second, "/root/second", "/root/first")] {
        let window = diff(&lab, id);
        assert!(has(&window, own) && !has(&window, others), "{window}");
        assert_eq!(window["with"], serde_json::json!([]), "{window}");
    }
    lab.down();
    let listings: Vec<Value> = members(&lab, "listings")
        .iter()
        .map(|path| serde_json::from_slice(&zstd::decode_all(fs::File::open(path).unwrap()).unwrap()).unwrap())
        .collect();
    assert!(listings.len() >= 2);
    for listing in &listings {
        assert_eq!(listing["granted"], "10.31.0.0/24", "{listing}");
        leased_by_the_network(&listing["leased"]);
    }
    let archives: Vec<PathBuf> =
        members(&lab, "").into_iter().filter(|path| path.to_str().unwrap().ends_with(".tar.zst")).collect();
    assert_eq!(archives.len(), 2, "{archives:?}");
    let manifest = |path: &Path| lab.json(&["evidence", "show", path.to_str().unwrap()]);
    for archive in archives {
        leased_by_the_network(&manifest(&archive)["leased"]);
    }
    // What is handed to others has no more.
    let dir = export(&lab, &first, "neighbor");
    let archive = fs::read_dir(dir.join("evidence")).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.to_str().unwrap().ends_with(".tar.zst")).expect("an archive");
    leased_by_the_network(&manifest(&archive)["leased"]);
    let told = fs::read_to_string(dir.join("manifest.json")).unwrap();
    assert!(told.contains("10.31.0.0") && !told.contains("10.31.0.2\"") && !told.contains("10.31.0.3"), "{told}");
}

/// What is in a folder of evidence.
fn members(lab: &Lab, folder: &str) -> Vec<PathBuf> {
    let dir = lab.own_dir().join("evidence").join(folder);
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn leased_by_the_network(leased: &Value) {
    assert_eq!((&leased["attacker"], &leased["host"]), (&"10.31.0.0".into(), &HOST.into()), "{leased}");
    let leases = leased["leases"].as_array().unwrap();
    assert!(!leases.is_empty() && leases.iter().all(|lease| lease["attacker"] == "10.31.0.0"), "{leased}");
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The folder that a bundle of the session is unpacked to.
pub fn export(lab: &Lab, id: &str, name: &str) -> PathBuf {
    let (bundle, dir) = (lab.path(&format!("{name}.tar.zst")), lab.path(name));
    let output = lab.command(&["session", "export", id, "--plain", "-o", &text(&bundle)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = lab.command(&["session", "verify", &text(&bundle)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::create_dir(&dir).unwrap();
    sh(&["tar", "--zstd", "-C", &text(&dir), "-xf", &text(&bundle)]);
    dir
}

/// What a bundle has of it, by the field's own tools.
fn exported(lab: &Lab, id: &str, hash: &str, name: &str) {
    let dir = export(lab, id, name);
    let difference: Value = serde_json::from_slice(&fs::read(dir.join("evidence/difference.json")).unwrap()).unwrap();
    let window = &difference["containers"][0]["windows"][0];
    assert_eq!((&difference["session"], &change(window, "/root/run")["sha256"]), (&id.into(), &hash.into()));
    let sample = zstd::decode_all(fs::File::open(dir.join(format!("samples/{hash}.zst"))).unwrap()).unwrap();
    assert_eq!(sample, SCRIPT.as_bytes());
    let listing = window["listings"][0].as_str().unwrap();
    let listing = zstd::decode_all(fs::File::open(dir.join("evidence").join(listing)).unwrap()).unwrap();
    let listing: Value = serde_json::from_slice(&listing).unwrap();
    assert!(has(&listing, "/etc/issue"), "{listing}");
    // One that somebody put in.
    let changed = lab.path(&format!("{name}-changed"));
    fs::write(dir.join(format!("samples/{hash}.zst")), zstd::encode_all(&b"#!/bin/sh\nls\n"[..], 3).unwrap()).unwrap();
    let members: Value = serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut names: Vec<String> =
        members["members"].as_array().unwrap().iter().map(|member| member["path"].as_str().unwrap().into()).collect();
    names.extend(["manifest.json".into(), "manifest.sig".into()]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sh(&[&["tar", "--zstd", "-C", &text(&dir), "-cf", &text(&changed)][..], &names].concat());
    let output = std::process::Command::new(PROGRAM)
        .args(["session", "verify", &text(&changed), "--name", &lab.name, "--state-dir"])
        .arg(crate::lab::state_dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains(&format!("samples/{hash}.zst")), "{said}");
}
