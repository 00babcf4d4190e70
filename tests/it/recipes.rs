//! Images as their recipes make them, behind a real honeynet: what is declared
//! answers, and what is weak lets an attacker in.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::lab::{Lab, PROGRAM, state_dir};
use crate::net::{Ns, wait_for};

/// One host, 10.10.0.20, upon `image`, with `ports` of its container; `images` is more YAML.
fn topology(image: &str, ports: &[u16], images: &str) -> String {
    let tcp: Vec<String> = ports.iter().map(|port| format!("{port}: container")).collect();
    format!(
        "name: box
templates:
  box:
    personality: linux
    tcp: {{{}}}
    backend: {{image: {image}}}
{images}
nodes:
  wan: {{kind: uplink}}
  edge:
    kind: router
    interfaces: {{wan: [192.0.2.1/24], servers: [10.10.0.1/24]}}
  box: {{kind: host, address: 10.10.0.20, template: box}}
links:
  - endpoints: [wan, 'edge:wan']
  - endpoints: ['edge:servers', box]
",
        tcp.join(", ")
    )
}

fn up(topology: &str) -> Lab {
    let lab = Lab::up(topology);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab
}

const HOST: &str = "10.10.0.20";

/// `honeyweave image ...` on the tests' images.
fn image_command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("image").args(args).arg("--state-dir").arg(state_dir());
    command
}

fn image(args: &[&str]) -> Output {
    image_command(args).output().unwrap()
}

fn image_ok(args: &[&str]) -> String {
    let output = image(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where an image lies and what is said about it, by what built or imported it.
fn made(args: &[&str]) -> (PathBuf, Value) {
    let said = image_ok(args);
    let dir = PathBuf::from(said.trim().split_once(' ').unwrap().1);
    let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
    (dir, serde_json::from_slice(&manifest).unwrap())
}

/// What a command of the attacker's says; tried again while the service is still starting.
fn ask(from: &Ns, args: &[&str]) -> String {
    let mut last = String::new();
    let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(args[0], || {
            let output = from.run(&[&["timeout", "30"], args].concat());
            last = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }));
    said.unwrap_or_else(|_| panic!("{args:?}: {last}"))
}

/// Logs in and runs a command.
fn ssh(from: &Ns, login: &str, command: &str) -> String {
    let (user, password) = login.split_once(':').unwrap();
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let target = format!("{user}@{HOST}");
    ask(from, &[&["sshpass", "-p", password, "ssh", "-T"][..], &options, &[&target, command]].concat())
}

/// Talks to every service that the image `name` declares, as its clients do.
fn every_service_answers(lab: &Lab, name: &str, login: &str) {
    let from = &lab.attacker;
    let services = made(&["build", name]).1["services"].clone();
    let services = services.as_array().unwrap().clone();
    assert!(services.len() >= 2 || name == "workstation", "{services:?}");
    for service in services {
        let url = |scheme: &str, path: &str| format!("{scheme}://{HOST}:{}{path}", service["port"]);
        match service["name"].as_str().unwrap() {
            "ssh" => assert_eq!(ssh(from, login, "id -un").trim(), login.split(':').next().unwrap()),
            "http" => assert!(ask(from, &["curl", "-sf", &url("http", "/")]).contains("<html>")),
            "ftp" => {
                assert!(ask(from, &["curl", "-sf", &url("ftp", "/public/phone-list.csv")]).contains("Weber Martina"));
                let own = ask(from, &["curl", "-sf", "-u", "scanner:scanner", &url("ftp", "/incoming/")]);
                assert!(own.contains("scan_0031.txt"), "{own}");
            }
            "smtp" => {
                let letter = lab.file("letter", "From: a@b.example\r\nSubject: hi\r\n\r\nmeet me at noon\r\n");
                let letter = letter.to_str().unwrap();
                let send = |to: &str| {
                    let url = url("smtp", "");
                    let args = ["curl", "-sf", &url, "--mail-from", "a@b.example", "--mail-rcpt", to, "-T", letter];
                    from.run(&args).status.success()
                };
                wait_for("the mail server", || send("svogt@localhost").then_some(()));
                // It relays for nobody.
                assert!(!send("someone@elsewhere.example"));
            }
            "imap" => {
                let imap = |path: &str| ask(from, &["curl", "-sf", "-u", "svogt:Sabine1", &url("imap", path)]);
                // Two letters of long ago, and the one that was just sent.
                wait_for("the letter", || imap("/INBOX?ALL").contains("1 2 3").then_some(()));
                let texts: String = (1..=3).map(|number| imap(&format!("/INBOX;MAILINDEX={number}"))).collect();
                assert!(texts.contains("meet me at noon") && texts.contains("Herbst!2023"), "{texts}");
            }
            "postgresql" => {
                let connection = format!("host={HOST} user=app password=app2021 dbname=customers connect_timeout=5");
                let query = "SELECT count(*), count(DISTINCT customer) > 200, max(ordered) < now() FROM orders";
                assert_eq!(ask(from, &["psql", "-XAtc", query, &connection]).trim(), "4000|t|t");
            }
            other => panic!("nobody talks to `{other}`"),
        }
    }
}

#[test]
fn a_file_server_answers() {
    let lab = up(&topology("file", &[21, 22], ""));
    every_service_answers(&lab, "file", "mweber:Sommer2023");
    assert!(ssh(&lab.attacker, "mweber:Sommer2023", "cat accounting/bank-access.txt").contains("4711-weber"));
}

#[test]
fn a_mail_server_answers() {
    let lab = up(&topology("mail", &[22, 25, 143], ""));
    every_service_answers(&lab, "mail", "plindner:linux123");
}

#[test]
fn a_database_answers() {
    let lab = up(&topology("database", &[22, 5432], ""));
    every_service_answers(&lab, "database", "dba:dba123");
}

#[test]
fn a_workstation_was_worked_on() {
    let lab = up(&topology("workstation", &[22], ""));
    every_service_answers(&lab, "workstation", "root:toor");
    let run = |command: &str| ssh(&lab.attacker, "plindner:linux123", command);
    // Years of days, in order, none in the future.
    let times = run("grep '^#' .bash_history | tr -d '#'; date +%s");
    let times: Vec<i64> = times.lines().map(|line| line.parse().unwrap()).collect();
    assert!(times.len() > 20 && times.is_sorted() && times[times.len() - 1] - times[0] > 90 * 86_400, "{times:?}");
    assert!(run("grep -c . .ssh/known_hosts; cat .ssh/id_ed25519; ls notes").contains("OPENSSH PRIVATE KEY"));
    assert_eq!(run("pgrep -c -x cron; stat -c %U notes/todo.txt"), "1\nplindner\n");
    let age = run("echo $(( ($(date +%s) - $(stat -c %Y notes/servers.txt)) / 86400 ))");
    assert!((62..1000).contains(&age.trim().parse::<i64>().unwrap()), "{age}");
}

#[test]
fn an_attacker_walks_in_through_what_is_weak() {
    let lab = up(&topology("weak", &[22, 80], ""));
    every_service_answers(&lab, "weak", "admin:admin123");
    // The page asks for the name of a device, and gets a command.
    let inject = |command: &str| {
        let url = format!("http://{HOST}/cgi-bin/diag.cgi?host=127.0.0.1;{}", command.replace(' ', "+"));
        ask(&lab.attacker, &["curl", "-sf", &url])
    };
    let who = inject("id");
    assert!(who.contains("FG-200: ping") && who.contains("uid=33(www-data)"), "{who}");
    let settings = inject("cat /etc/diag/settings");
    let password = settings.lines().find_map(|line| line.strip_prefix("SSH_PASSWORD=")).unwrap();
    let loot = ssh(&lab.attacker, &format!("admin:{password}"), "cat backup/router-config.txt");
    assert!(loot.contains("snmp-server community"), "{loot}");
    // And all of it was recorded.
    lab.wait_event("container.live", |event| event["dst"]["ip"] == HOST);
    lab.wait_event("tcp.data", |event| event["dst"]["port"] == 80);
}

#[test]
fn a_recipe_of_ones_own_is_built_anew_when_it_changes() {
    let lab = Lab::shared();
    let name = format!("own-{}", std::process::id());
    let folder = lab.path("mine");
    std::fs::create_dir_all(folder.join("tasks")).unwrap();
    std::fs::create_dir_all(folder.join("files/srv")).unwrap();
    let recipe = "{name: mine, method: unpack, packages: [busybox-static, libc-bin],
        services: [{name: http, port: 80, run: /bin/busybox httpd -f -h /srv}]}";
    std::fs::write(folder.join("recipe.yaml"), recipe).unwrap();
    std::fs::write(folder.join("files/srv/index.html"), "<html>one</html>").unwrap();
    std::fs::write(folder.join("tasks/30-second.sh"), "cat /order >/srv/order; echo second >>/srv/order").unwrap();
    std::fs::write(folder.join("tasks/20-first.sh"), "id -u >/order; grep -c : /proc/net/dev >>/order").unwrap();
    let text = topology(&name, &[80], &format!("images:\n  {name}: {{recipe: ./mine}}"));
    let file = lab.file("own.yaml", &text);
    let build = || image(&["build", file.to_str().unwrap()]);
    let built = |output: &Output| -> PathBuf {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().split_once(' ').unwrap().1.into()
    };
    let first = built(&build());
    let order = std::fs::read_to_string(first.join("rootfs/srv/order")).unwrap();
    // Root inside, without a network but for a loopback that is down, one task behind the other.
    assert_eq!(order, "0\n1\nsecond\n");
    // Nobody outside owns what a task made, and nothing of the build is left.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(first.join("rootfs/srv/order")).unwrap().uid(), 1_000_000);
    assert!(!first.join("rootfs/.recipe").exists());
    assert_eq!(built(&build()), first);
    std::fs::write(folder.join("files/srv/index.html"), "<html>two</html>").unwrap();
    let second = built(&build());
    assert_ne!(second, first);
    // A task that fails says so, and leaves nothing.
    std::fs::write(folder.join("tasks/50-broken.sh"), "echo the reason >&2; exit 3").unwrap();
    let output = build();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("task 50-broken.sh failed") && said.contains("the reason"),
        "{said}"
    );
    let left: Vec<_> = std::fs::read_dir(first.parent().unwrap()).unwrap().flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".tmp")), "{left:?}");
    std::fs::remove_file(folder.join("tasks/50-broken.sh")).unwrap();
    let mut lab = lab;
    std::fs::rename(&folder, lab.path("mine")).unwrap_or_default();
    lab.start(&text);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    assert_eq!(ask(&lab.attacker, &["curl", "-sf", &format!("http://{HOST}/")]), "<html>two</html>");
    lab.down();
    image_ok(&["rm", &name]);
}

#[test]
fn a_system_is_imported_worked_in_and_captured() {
    let (old, worked) = (format!("old-{}", std::process::id()), format!("worked-{}", std::process::id()));
    let lab = Lab::shared();
    let small = made(&["build", "small"]).0.join("rootfs");
    let archive = lab.path("rootfs.tar.xz");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-cJf"]).arg(&archive).arg("-C").arg(&small).arg(".");
    assert!(tar.status().unwrap().success());
    let imported = made(&["import", &old, archive.to_str().unwrap()]).1;
    assert_eq!(imported["init"], serde_json::json!(["/sbin/init"]));
    assert_eq!(imported["host_key"], "dropbear");
    // What is no archive says so and leaves what was there.
    let output = image(&["import", &old, "/etc/passwd"]);
    assert!(!output.status.success() && !String::from_utf8_lossy(&output.stderr).is_empty());
    let mut lab = lab;
    lab.start(&topology(&old, &[22], &format!("images:\n  {old}: {{recipe: imported}}")));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    ssh(
        &lab.attacker,
        "root:toor",
        "echo work >/root/work; rm /etc/issue; mkdir /srv/data; ln -s /etc/shadow /srv/data/link",
    );
    // An intruder who writes one file after the other, with much to copy between them.
    ssh(
        &lab.attacker,
        "root:toor",
        "mkdir /srv/b; for i in $(seq 20); do head -c 4000000 /dev/zero >/srv/b/$i; done; \
         (i=0; while :; do i=$((i+1)); for f in a c; do echo $i >/srv/.$f; mv /srv/.$f /srv/$f; done; done) \
         >/dev/null 2>&1 & echo",
    );
    let count = || ssh(&lab.attacker, "root:toor", "cat /srv/c 2>&1").trim().parse::<u64>().unwrap_or(0);
    wait_for("that files are written", || (count() > 0).then_some(()));
    // Other tests' hosts may be called the same.
    let running = lab.json(&["container", "ls"])[0]["name"].as_str().unwrap().to_owned();
    image_ok(&["capture", &worked, "--from", &running]);
    // It goes on, and does when the copying is killed in the middle.
    let before = count();
    wait_for("that it goes on", || (count() > before).then_some(()));
    let mut killed = image_command(&["capture", "killed-in-the-middle", "--from", &running]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_frozen = |dir: &PathBuf| {
        let state = std::fs::read_to_string(dir.join("freezer.state")).unwrap_or_default();
        state.trim() == "FROZEN" && dir.to_string_lossy().contains(&running)
    };
    wait_for("that it is frozen", || lab.cgroups().iter().any(is_frozen).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = count();
    wait_for("that it goes on", || (count() > before).then_some(()));
    lab.down();
    drop(lab);
    let lab = up(&topology(&worked, &[22], &format!("images:\n  {worked}: {{recipe: imported}}")));
    let counts = ssh(&lab.attacker, "root:toor", "cat /srv/a /srv/c");
    let [first, last] = counts.split_whitespace().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] else {
        panic!("{counts:?}")
    };
    assert!(first == last || first == last + 1, "the files fit together: {first} {last}");
    let text = ssh(&lab.attacker, "root:toor", "cat /root/work; ls /etc/issue 2>&1; readlink /srv/data/link");
    assert_eq!(text, "work\nls: /etc/issue: No such file or directory\n/etc/shadow\n");
    drop(lab);
    for image in [&old, &worked] {
        image_ok(&["rm", image]);
    }
}
