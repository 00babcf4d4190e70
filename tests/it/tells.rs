//! Every row of docs/tells.md, looked at from inside a container.

use std::collections::BTreeMap;

use crate::lab::Lab;
use crate::shell::shell;

const MACHINES: &str = r#"
name: tells
templates:
  shell:
    personality: linux
    vendor: dell
    tcp: {22: container}
    backend:
      image: tools
      limits: {memory: 96M, processes: 200, cpu: 0.5, disk: 64M}
      hardware: {model: PowerEdge R640, serial: 7XK2J3Q, cpu: Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz, memory: 16G, disk: 480G}
  strict:
    personality: linux
    tcp: {22: container}
    backend: {image: tools, no_new_privs: true}
images:
  tools: {recipe: small, packages: [nmap, iperf3, tcpdump], users: [{name: root, password: toor}]}
nodes:
  wan: {kind: uplink}
  shells: {kind: hosts, addresses: 192.0.2.20-192.0.2.21, template: shell, prefix: 192.0.2.0/24}
  strict: {kind: host, address: 192.0.2.30, template: strict, prefix: 192.0.2.0/24}
  core: {kind: switch, ports: 3}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [shells, "core:2"]
  - endpoints: [strict, "core:3"]
"#;

fn machines() -> Lab {
    let lab = Lab::up(MACHINES);
    lab.attacker.addr("eth0", "192.0.2.2/24");
    lab
}

/// Name and verdict of each row of the table.
fn rows() -> BTreeMap<String, String> {
    let page = include_str!("../../docs/tells.md");
    let table = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| tell "));
    let mut rows = BTreeMap::new();
    for line in table {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [tell, _, hidden, why] = cells.as_slice() else { panic!("four columns: {line}") };
        assert!(["yes", "partly", "no"].contains(hidden) && why.len() > 5, "{line}");
        rows.insert(tell.trim_start_matches("| ").to_owned(), (*hidden).to_owned());
    }
    rows
}

fn here(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What a row of the page claims, by what `command` shows.
struct Claim {
    tell: &'static str,
    hidden: &'static str,
    command: &'static str,
    holds: fn(&str) -> bool,
}

const fn claim(tell: &'static str, hidden: &'static str, command: &'static str, holds: fn(&str) -> bool) -> Claim {
    Claim { tell, hidden, command, holds }
}

const CLAIMS: &[Claim] = &[
    claim("init's environment", "yes", "tr '\\0' '\\n' </proc/1/environ", |text| text == "HOME=/\nTERM=linux\n"),
    claim("names of cgroups", "yes", "cat /proc/self/cgroup", |text| {
        !text.contains("lxc") && text.lines().all(|line| line.ends_with(":/"))
    }),
    claim(
        "files of container engines",
        "yes",
        "ls -d /.dockerenv /run/.containerenv /run/systemd/container /dev/.lxc /dev/lxd /dev/incus 2>/dev/null; true",
        str::is_empty,
    ),
    claim("table of mounts", "partly", "cat /proc/mounts; mount", |text| {
        text.contains("/dev/sda1 / ext4 rw,") && text.contains("on / type ext4") && !text.contains("overlay")
    }),
    claim("a process's own table of mounts", "no", "cat /proc/self/mountinfo", |text| {
        let names = ["honeyweave", "containers", "hw-", "/images", "test-state", "loop", "lxc"];
        text.contains(" - overlay ") && !names.iter().any(|name| text.contains(name))
    }),
    claim("type of the root file system", "no", "stat -f -c %t /", |text| text == "794c7630\n"),
    claim("source and size of the root file system", "yes", "df -k /", |text| {
        let fields: Vec<&str> = text.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        let size = fields.get(1).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
        fields.first() == Some(&"/dev/sda1") && (40_000..=65_536).contains(&size)
    }),
    claim("release of the kernel", "no", "uname -r", |text| text == here("/proc/sys/kernel/osrelease")),
    claim("build of the kernel", "yes", "cat /proc/version; echo; uname -rv", |text| {
        let (version, uname) = text.split_once("\n\n").unwrap_or_default();
        let (release, build) = uname.trim().split_once(' ').unwrap_or_default();
        let makers = ["debian", "ubuntu", "redhat", "fedora", "suse", "archlinux"];
        version.starts_with(&format!("Linux version {release} ("))
            && version.ends_with(build)
            && makers.iter().any(|maker| version.to_lowercase().contains(maker))
    }),
    claim("command line of the kernel", "yes", "cat /proc/cmdline", |text| {
        text.starts_with("BOOT_IMAGE=/boot/vmlinuz-") && text != here("/proc/cmdline")
    }),
    claim("kernel messages", "no", "dmesg 2>&1; true", |text| text.contains("not permitted")),
    claim("modules of the kernel", "yes", "cat /proc/modules 2>/dev/null; true", |text| {
        match std::path::Path::new("/proc/modules").exists() {
            true => text.contains("megaraid_sas ") && text != here("/proc/modules"),
            false => text.is_empty(),
        }
    }),
    claim("processors' name", "partly", "cat /proc/cpuinfo", |text| {
        text.contains("model name\t: Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz\n") && !text.contains("hypervisor")
    }),
    claim(
        "number of processors",
        "yes",
        "nproc; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l",
        |text| {
            let lines: Vec<&str> = text.lines().collect();
            let count: usize = lines[0].parse().unwrap();
            let online = if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) };
            lines[1..] == [lines[0], online.as_str(), lines[0]]
        },
    ),
    claim("memory in `/proc/meminfo`", "yes", "head -n 1 /proc/meminfo", |text| {
        text == "MemTotal:       16357785 kB\n"
    }),
    claim("memory by system call", "no", "free -k | sed -n 2p", |text| {
        // Total, used, free: no program may come to more than there is, whatever it computes of which source.
        let columns: Result<Vec<u64>, _> = text.split_whitespace().skip(1).map(str::parse).collect();
        let [total, rest @ ..] = columns.as_deref().unwrap_or_default() else { return false };
        let own = here("/proc/meminfo").lines().next().unwrap_or_default().contains(&format!(" {total} kB"));
        own && rest.len() >= 5 && rest.iter().all(|part| part <= total)
    }),
    claim("time since boot", "yes", "cat /proc/uptime; sleep 1; cat /proc/uptime", |text| {
        let up: Vec<f64> = text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        let own: f64 = here("/proc/uptime").split(' ').next().unwrap().parse().unwrap();
        up[0] > own + 3500.0 && up[0] < own + 61.0 * 86_400.0 && (0.9..5.0).contains(&(up[1] - up[0]))
    }),
    claim("load", "no", "cat /proc/loadavg", |text| {
        // The tasks of the whole machine: more than there are inside.
        text.split(['/', ' ']).nth(4).unwrap().parse::<u32>().unwrap() > 20
    }),
    claim("identity of the boot", "yes", "cat /proc/sys/kernel/random/boot_id", |text| {
        text.len() == 37 && text != here("/proc/sys/kernel/random/boot_id")
    }),
    claim(
        "disks and partitions",
        "yes",
        "cat /proc/partitions; cat /proc/diskstats; ls /sys/block /sys/class/block; cat /sys/block/sda/size /sys/block/sda/device/model",
        |text| {
            !["vda", "loop", "zram", "nvme", "dm-"].iter().any(|name| text.contains(name))
                && text.contains(" 468750000 sda\n")
                && text.contains("\n937500000\nPERC H730P Mini")
        },
    ),
    claim("nodes of disks", "no", "ls /dev", |text| text.contains("null") && !text.contains("sda")),
    claim("swap", "yes", "cat /proc/swaps", |text| text.starts_with("Filename") && text.lines().count() == 1),
    claim(
        "maker and model",
        "yes",
        "cd /sys/class/dmi/id; cat sys_vendor product_name product_serial bios_vendor",
        |text| text == "Dell Inc.\nPowerEdge R640\n7XK2J3Q\nDell Inc.\n",
    ),
    claim("MAC prefix", "yes", "cat /sys/class/net/eth0/address", |text| text.starts_with("b8:ca:3a:")),
    claim("place of the network interface", "yes", "readlink /sys/class/net/eth0; ls /sys/class/net", |text| {
        text.contains("/pci0000:00/") && !text.contains("virtual") && text.ends_with("\neth0\nlo\n")
    }),
    claim(
        "owners of devices",
        "yes",
        "stat -c '%U %G %a %n' /dev/null /dev/tty /dev/ptmx /dev/pts /dev; echo x >/dev/null",
        |text| {
            text.lines().all(|line| line.starts_with("root "))
                && text.contains("root root 666 /dev/null\nroot tty 666 /dev/tty\n")
        },
    ),
    claim("log", "partly", "ls -l /dev/log; grep /dev/log /proc/net/unix; ps | grep [s]yslog; true", |text| {
        let lines: Vec<&str> = text.lines().collect();
        matches!(lines.as_slice(), [socket, listed] if socket.starts_with("srw-rw-rw-") && socket.contains(" root ")
            && listed.ends_with(" /dev/log"))
    }),
    claim("console", "partly", "stat -c '%F %t,%T' /dev/console", |text| text == "character special file 1,3\n"),
    claim("owners in `/proc`", "no", "stat -c %u /proc/sys /proc/cpuinfo /sys", |text| text == "65534\n0\n0\n"),
    claim("map of user ids", "no", "cat /proc/self/uid_map", |text| text.contains(" 1000000 ")),
    claim("namespaces", "no", "readlink /proc/self/ns/pid", |text| text != "pid:[4026531836]\n"),
    claim("capabilities and filter", "no", "cat /proc/self/status", |text| {
        text.contains("Seccomp:\t2\n")
            && text.contains("NoNewPrivs:\t0\n")
            && !text.contains("CapBnd:\t000001ffffffffff")
    }),
    claim("mounting", "no", "mount -t tmpfs none /mnt 2>&1; true", |text| {
        text.contains("ermission denied") || text.contains("not permitted")
    }),
    claim("threads of the kernel", "no", "ps", |text| {
        text.contains("    1 root     init\n") && !text.contains("kthreadd")
    }),
    claim("numbers of processes", "partly", "echo $$", |text| text.trim().parse::<u32>().unwrap() > 1000),
    claim("keys", "yes", "wc -c </proc/keys", |text| text.trim() == "0"),
    claim("interrupts", "no", "cat /proc/interrupts", |text| text.contains("CPU0")),
];

#[test]
fn the_page_of_tells_says_what_is_so() {
    let mut lab = machines();
    let documented = rows();
    let claimed: BTreeMap<String, String> =
        CLAIMS.iter().map(|claim| (claim.tell.to_owned(), claim.hidden.to_owned())).collect();
    assert_eq!(documented, claimed, "docs/tells.md and this test differ");
    let mut wrong = Vec::new();
    for Claim { tell, command, holds, .. } in CLAIMS {
        let text = shell(&lab.attacker, "192.0.2.20", command);
        if !holds(&text) {
            wrong.push(format!("{tell}: `{command}` shows:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lab.down();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn hosts_of_a_template_are_alike_and_not_the_same() {
    let lab = machines();
    let look = "cat /sys/class/dmi/id/product_name /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_uuid";
    let said = ["192.0.2.20", "192.0.2.21"].map(|host| shell(&lab.attacker, host, look));
    let lines = said.each_ref().map(|text| text.lines().collect::<Vec<_>>());
    assert_eq!(lines[0][0], lines[1][0]);
    assert!(lines[0][1] != lines[1][1] && lines[0][2] != lines[1][2], "{said:?}");
    // A second contact finds the same machine.
    assert_eq!(shell(&lab.attacker, "192.0.2.20", look), said[0]);
}

#[test]
fn nothing_inside_reaches_the_machine() {
    let lab = machines();
    let inside = |command: &str| shell(&lab.attacker, "192.0.2.20", command);
    // Taking away or writing what covers the machine's files.
    let tried = inside(
        "umount /proc/cpuinfo 2>&1; umount /sys 2>&1; umount /proc/mounts 2>&1; \
         echo x 2>&1 >/proc/cpuinfo; chmod u+w /proc/cpuinfo 2>&1; echo x 2>&1 >/sys/class/dmi/id/sys_vendor; true",
    );
    assert_eq!(inside("cat /sys/class/dmi/id/sys_vendor"), "Dell Inc.\n", "{tried}");
    assert!(inside("cat /proc/cpuinfo").contains("Silver 4210"), "{tried}");
    // Disks and memory of the machine as devices: they cannot be made, and not be opened.
    let device = inside(
        "mknod /root/disk b 254 0 2>&1; mknod /root/mem c 1 1 2>&1; mknod /dev/mem c 1 1 2>&1; ls /root /dev/mem 2>&1; true",
    );
    assert_eq!(device.matches("not permitted").count(), 3, "{device}");
    let limits = inside(
        "ulimit -c; ulimit -l; cat /proc/acpi/* /proc/scsi/* 2>/dev/null | wc -c; ls /sys/firmware /sys/module | grep -v :",
    );
    assert_eq!(limits.split_whitespace().collect::<Vec<_>>(), ["0", "8192", "0"], "{limits}");
    // Nothing that starts there gains rights, because the topology says so.
    assert!(shell(&lab.attacker, "192.0.2.30", "cat /proc/self/status").contains("NoNewPrivs:\t1\n"));
    let groups = lab.cgroups();
    let devices: Vec<String> = groups
        .iter()
        .filter_map(|group| std::fs::read_to_string(group.join("devices.list")).ok())
        .filter(|list| !list.starts_with("a *:* rwm"))
        .collect();
    let version_1 = here("/proc/self/mounts").contains(",devices ") || here("/proc/self/mounts").contains(",devices,");
    assert!(
        !version_1 || devices.iter().any(|list| list.contains("c 1:3 rwm") && !list.contains("1:1 ")),
        "{devices:?}"
    );
}
