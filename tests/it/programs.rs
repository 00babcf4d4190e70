//! Services that programs and servers beside the switch answer.

use crate::lab::Lab;

fn topology(lab: &Lab) -> String {
    use std::os::unix::fs::PermissionsExt;
    // Scripts run as a user of their own, who must be able to reach them.
    std::fs::set_permissions(lab.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = |name: &str, text: &str| {
        let path = lab.file(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let echo = script(
        "echo",
        "#!/bin/sh\nprintf 'hello %s\\r\\n' \"$1\"\nwhile read -r line; do [ \"$line\" = bye ] && exit 0; echo \"you said $line\"; done\n",
    );
    let who = script("who", "#!/bin/sh\nid -u; env | sort; ip -o link 2>/dev/null; exec cat /proc/net/dev\n");
    let broken = script("broken", "#!/nonexistent/interpreter\n");
    format!(
        r#"
name: services
templates:
  server:
    personality: linux
    tcp:
      7: {{script: [{echo}, there]}}
      8: {{script: [{who}]}}
      9: {{script: [{broken}]}}
      80: {{proxy: "127.0.0.1:8080"}}
      81: {{proxy: "127.0.0.1:8081"}}
nodes:
  wan: {{kind: uplink}}
  servers: {{kind: hosts, addresses: 192.0.2.100-192.0.2.109, template: server}}
links:
  - endpoints: [wan, servers]
"#
    )
}

fn services() -> Lab {
    let mut lab = Lab::shared();
    let topology = topology(&lab);
    lab.start(&topology);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// Says something to a port and returns all that comes back, once the host has closed.
fn say(lab: &Lab, port: &str, text: &str) -> String {
    let talk = format!("printf '{text}' | nc -w 5 192.0.2.100 {port}");
    String::from_utf8_lossy(&lab.attacker.run(&["sh", "-c", &talk]).stdout).into_owned()
}

#[test]
fn a_script_is_the_connection() {
    let lab = services();
    assert_eq!(say(&lab, "7", "one\\ntwo\\nbye\\n"), "hello there\r\nyou said one\nyou said two\n");
    // Twenty at once do not mix.
    let talks = "for i in $(seq 20); do (printf \"$i\\nbye\\n\" | nc -w 5 192.0.2.101 7 | grep -c \"you said $i\\$\") & done; wait";
    let said = lab.attacker.sh(&["sh", "-c", talks]);
    assert_eq!(said.lines().filter(|line| *line == "1").count(), 20, "{said}");
    let closed = lab.wait_event("tcp.close", |event| event["dst"]["ip"] == "192.0.2.100" && event["dst"]["port"] == 7);
    assert_eq!(closed["bytes_in"], 12, "{closed}");
    assert_eq!(closed["bytes_out"], 39, "{closed}");
}

#[test]
fn a_script_has_no_rights_and_no_network() {
    let lab = services();
    let said = say(&lab, "8", "");
    let uid: u32 = said.lines().next().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert_ne!(uid, 0);
    assert!(said.contains("192.0.2.2"), "it is told who is there: {said}");
    assert!(!said.contains("up0") && !said.contains("eth0"), "{said}");
    assert!(said.contains("lo:"), "{said}");
}

#[test]
fn a_script_that_cannot_run_closes_its_connection_and_no_other() {
    let lab = services();
    let mut other = lab.attacker.spawn(&["nc", "192.0.2.100", "7"]);
    other.wait_line("hello there");
    assert_eq!(say(&lab, "9", "anyone?\\n"), "");
    let failed = lab.wait_event("service.failed", |event| event["dst"]["port"] == 9);
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("broken")), "{failed}");
    assert_eq!(failed["src"]["ip"], "192.0.2.2");
    assert_eq!(say(&lab, "7", "bye\\n"), "hello there\r\n");
}

#[test]
fn a_proxy_passes_a_connection_to_a_server_and_survives_its_absence() {
    let lab = services();
    // The server is where the honeynet runs, not where the attacker is.
    let pages = lab.path("pages");
    std::fs::create_dir(&pages).unwrap();
    std::fs::write(pages.join("index.html"), "behind the proxy\n").unwrap();
    let directory = pages.to_str().unwrap();
    let mut server = lab.wire.spawn(&["busybox", "httpd", "-f", "-vv", "-p", "127.0.0.1:8080", "-h", directory]);
    crate::net::wait_for("the server", || {
        lab.wire.run(&["nc", "-z", "127.0.0.1", "8080"]).status.success().then_some(())
    });
    let page = lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://192.0.2.100/index.html"]);
    assert_eq!(page, "behind the proxy\n");
    server.wait_line("index.html");
    let large = vec![b'x'; 3_000_000];
    std::fs::write(pages.join("large"), &large).unwrap();
    let size = lab.attacker.sh(&[
        "curl",
        "-sS",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        "http://192.0.2.105/large",
    ]);
    assert_eq!(size, "3000000");
    let dead = lab.attacker.run(&["curl", "-sS", "--max-time", "5", "http://192.0.2.100:81/"]);
    // Reset when it has just been opened, or before curl has even looked.
    assert!(matches!(dead.status.code(), Some(7 | 52 | 56)), "closed at once: {dead:?}");
    let failed = lab.wait_event("service.failed", |event| event["dst"]["port"] == 81);
    assert!(failed["reason"].as_str().is_some_and(|why| why.contains("127.0.0.1:8081")), "{failed}");
    let page = lab.attacker.sh(&["curl", "-sS", "--max-time", "5", "http://192.0.2.101/index.html"]);
    assert_eq!(page, "behind the proxy\n");
}
