//! Real processes in a cgroup of their own, on this machine's kernel.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::sys::clock;
use crate::sys::eventfd::wait_readable;

mod servers;

/// A cgroup that is removed with this.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Cgroup {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount =
            mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("version 2 of cgroups");
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("honeyweave-test-{}-{number}", std::process::id());
        let path = Path::new(mount.split(' ').nth(1).unwrap()).join(name);
        std::fs::create_dir(&path).unwrap();
        Cgroup(path)
    }

    fn id(&self) -> u64 {
        std::fs::metadata(&self.0).unwrap().ino()
    }

    /// Runs a shell script in it, or in a cgroup below it.
    fn run(&self, below: Option<&str>, script: &str) {
        let at = below.map_or(self.0.clone(), |below| self.0.join(below));
        std::fs::create_dir_all(&at).unwrap();
        let script = format!("echo $$ >{}/cgroup.procs; {script}", at.display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if below.is_some() {
            std::fs::remove_dir(&at).unwrap();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

struct Watch {
    _attached: Attached,
    containers: Containers,
    reader: Reader,
}

fn watch(ring: u32, cgroup: &Cgroup) -> Watch {
    watch_all(ring, cgroup, false)
}

fn watch_all(ring: u32, cgroup: &Cgroup, of_32_bits: bool) -> Watch {
    let (attached, Handles { containers, ring: fd, lost }) = attach(ring, of_32_bits).unwrap();
    let containers = Containers::new(containers);
    let own = std::fs::metadata("/proc/self/ns/pid").unwrap();
    containers.add(cgroup.id(), (own.dev(), own.ino())).unwrap();
    Watch { _attached: attached, containers, reader: Reader::open(fd, &lost, ring).unwrap() }
}

impl Watch {
    /// What has happened, one line each, and how many records were lost.
    fn told(&mut self) -> (Vec<String>, u64) {
        let (mut told, mut record) = (Vec::new(), Vec::new());
        while self.reader.read(&mut record) {
            told.push(line(&Happened::parse(&record).unwrap()));
        }
        (told, self.reader.lost())
    }
}

fn line(happened: &Happened<'_>) -> String {
    match happened.directory() {
        Some(directory) => format!("{} in {}", line_without(happened), directory.escape_ascii()),
        None => line_without(happened),
    }
}

fn line_without(happened: &Happened<'_>) -> String {
    let text = |octets: &[u8]| octets.escape_ascii().to_string();
    let path = text(happened.path);
    match happened.kind {
        Kind::Execute => {
            let (arguments, is_cut) = happened.arguments();
            let arguments = arguments.into_iter().map(text).collect::<Vec<_>>().join("|");
            format!("execute {path} {arguments}{}", if is_cut { " cut" } else { "" })
        }
        Kind::Exit => format!("exit {} {:?}", text(happened.name), happened.code()),
        Kind::Connect | Kind::Listen | Kind::Bind => {
            format!("{:?} {} {}", happened.kind, happened.protocol(), happened.end().unwrap())
        }
        Kind::Raw => format!("Raw {:?}", happened.pair()),
        Kind::Open | Kind::OpenHow | Kind::Create if happened.made != 0 => {
            format!("{:?} {path} made {:o}", happened.kind, happened.made)
        }
        Kind::Directory | Kind::Node => {
            let (mode, device) = happened.pair();
            format!("{:?} {path} {:o} {device}", happened.kind, mode & !happened.made)
        }
        Kind::Rename | Kind::Link | Kind::Symlink => {
            format!("{:?} {path} {}", happened.kind, text(happened.rest.strip_suffix(&[0]).unwrap()))
        }
        Kind::Mode => format!("Mode {path} {:o} {}", happened.flags, happened.number as i32),
        kind => format!("{kind:?} {path}"),
    }
}

fn has(told: &[String], wanted: &str) {
    assert!(told.iter().any(|line| line == wanted), "{wanted:?} in {told:#?}");
}

#[test]
fn what_processes_of_a_cgroup_do_is_told_and_nothing_else_is() {
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let script = format!(
        "umask 022; /bin/echo a '' \"b c\"; cd {at}; : >new; : >>new; /bin/chmod 755 new; /bin/chmod 644 new; mv new 'o\nther'; ln -s /etc/passwd link; \
         rm -f link 'o\nther' /nowhere; mkdir -p a/b; : >a/b/c; rm -r a; cd /dev/shm && : >hw-$$ && rm hw-$$; cd /usr/bin; ./true; /bin/true; /bin/sh -c 'exit 7'; sh -c 'kill -9 $$'; cat /etc/passwd >/dev/null; true"
    );
    cgroup.run(None, &script);
    let other = Cgroup::new();
    other.run(None, "/bin/echo nobody is told of this");
    cgroup.run(Some("deeper"), "/bin/echo deeper");
    let (told, lost) = watch.told();
    assert_eq!(lost, 0);
    for wanted in [
        "execute /bin/echo /bin/echo|a||b c",
        "execute /bin/echo /bin/echo|deeper",
        "execute /bin/true /bin/true",
        "execute /bin/sh /bin/sh|-c|exit 7",
        "execute ./true ./true in /usr/bin",
        "exit sh Some(7)",
        "exit true Some(0)",
        "exit sh None",
    ] {
        has(&told, wanted);
    }
    // With where a path is relative to: where the process was, or a directory that it had open.
    for (wanted, below) in [
        ("Open new made 100644", ""),
        ("Open new", ""),
        ("Mode new 755 -100", ""),
        ("Rename new o\\nther", ""),
        ("Symlink /etc/passwd link", ""),
        ("Delete link", ""),
        ("Delete o\\nther", ""),
        ("Directory b 755 0", "/a"),
        ("Open a/b/c made 100644", ""),
        ("Delete c", "/a/b"),
        ("Delete b", "/a"),
    ] {
        has(&told, &format!("{wanted} in {at}{below}"));
    }
    assert!(told.iter().any(|line| line.starts_with("Open hw-") && line.ends_with(" in /dev/shm")), "{told:#?}");
    let not = ["nobody", "Delete /nowhere", "Mode new 644", "Open /etc/passwd"];
    assert!(!told.iter().any(|line| not.iter().any(|not| line.contains(not))), "{told:#?}");
    watch.containers.remove(cgroup.id());
    cgroup.run(None, "/bin/true");
    assert_eq!(watch.told().0, Vec::<String>::new());
}

/// A port that nobody waits at for datagrams.
fn free_port() -> u16 {
    std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn what_is_made_is_told_with_the_mode_that_it_has() {
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    // Copied twice; asked for with another mode that it does not get; without a name; with one, at once or by its descriptor.
    let python = "import os\n\
        os.close(os.open('tool', os.O_WRONLY | os.O_CREAT, 0o777))\n\
        os.close(os.open('.', os.O_WRONLY | os.O_TMPFILE, 0o700))\n\
        os.mknod('plain', 0o100755)\n\
        os.mkdir('deep', 0o1777, dir_fd=os.open('dir', os.O_RDONLY))\n";
    std::fs::write(dir.path().join("make.py"), python).unwrap();
    cgroup.run(
        None,
        &format!(
            "umask 027; cd {at}; cp /bin/true tool; cp /bin/true tool; mkdir dir; mkdir dir 2>/dev/null; mknod pipe p; \
             mknod disk b 8 1; mknod /nowhere/at/all p 2>/dev/null; python3 make.py"
        ),
    );
    let (told, lost) = watch.told();
    assert_eq!(lost, 0);
    for wanted in [
        "Open tool made 100750",
        "Open . made 100700",
        "Node plain 100750 0",
        "Node pipe 10640 0",
        "Node disk 60640 2049",
        "Directory dir 750 0",
    ] {
        has(&told, &format!("{wanted} in {at}"));
    }
    has(&told, &format!("Directory deep 1750 0 in {at}/dir"));
    let count = |begin: &str| told.iter().filter(|line| line.starts_with(begin)).count();
    // The second copy, and who only asked.
    assert_eq!((count("Open tool made"), count("Open tool in"), count("Directory dir")), (1, 2, 1), "{told:#?}");
    assert_eq!(count("Node /nowhere"), 0);
}

#[test]
fn who_waits_for_datagrams_or_sees_all_of_them_is_told() {
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let (one, other) = (free_port(), free_port());
    let python = format!(
        "import socket as s\n\
         u=s.socket(s.AF_INET,s.SOCK_DGRAM);u.bind(('127.0.0.1',{one}))\n\
         v=s.socket(s.AF_INET6,s.SOCK_DGRAM);v.bind(('::1',{other}))\n\
         w=s.socket(s.AF_INET,s.SOCK_DGRAM);w.bind(('',0))\n\
         x=s.socket(s.AF_INET,s.SOCK_DGRAM);x.connect(('127.0.0.1',9))\n\
         t=s.socket(s.AF_INET,s.SOCK_STREAM);t.bind(('127.0.0.1',{one}))\n\
         l=s.socket(s.AF_UNIX,s.SOCK_DGRAM);l.bind('\\0hw-{one}')\n\
         n=s.socket(s.AF_NETLINK,s.SOCK_RAW,0)\n\
         a=s.socket(s.AF_INET,s.SOCK_RAW,1)\n\
         b=s.socket(s.AF_INET6,s.SOCK_RAW,58)\n\
         c=s.socket(s.AF_PACKET,s.SOCK_RAW,s.htons(3))\n\
         d=s.socket(s.AF_PACKET,s.SOCK_DGRAM|s.SOCK_CLOEXEC,0)\n\
         e=s.socket(s.AF_INET,10,s.htons(3))\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wait.py");
    std::fs::write(&file, python).unwrap();
    cgroup.run(None, &format!("python3 {}", file.display()));
    let (told, lost) = watch.told();
    assert_eq!(lost, 0);
    let sockets: Vec<&String> =
        told.iter().filter(|line| ["Bind", "Raw", "Listen"].iter().any(|begin| line.starts_with(begin))).collect();
    let all = u32::from(3u16.to_be());
    let wanted = [
        format!("Bind 17 127.0.0.1:{one}"),
        format!("Bind 17 [::1]:{other}"),
        "Raw (2, 1)".to_owned(),
        "Raw (10, 58)".to_owned(),
        format!("Raw (17, {all})"),
        "Raw (17, 0)".to_owned(),
        format!("Raw (17, {all})"),
    ];
    assert_eq!(sockets, wanted.iter().collect::<Vec<_>>(), "{told:#?}");
}

/// A program of 32 bits that opens a file of its name to be written, removes it, makes a directory of that name and removes
/// that, makes a socket that sees echoes, waits at a port for datagrams, and ends with 9.
#[cfg(target_arch = "x86_64")]
fn of_32_bits(name: &str, port: u16) -> Vec<u8> {
    const AT: u32 = 0x0804_8000;
    const HEAD: u32 = 84;
    let put = |register: u8, value: u32| [&[0xb8 + register][..], &value.to_le_bytes()].concat();
    let call = |path: u32| {
        let address = path + name.len() as u32 + 1;
        let calls: [&[(u8, u32)]; 8] = [
            &[(0, 5), (3, path), (1, 0o101), (2, 0o744)],
            &[(0, 10), (3, path)],
            &[(0, 39), (3, path), (1, 0o777)],
            &[(0, 40), (3, path)],
            &[(0, 359), (3, 2), (1, 3), (2, 1)],
            &[(0, 359), (3, 2), (1, 2), (2, 0)],
            &[(0, 361), (3, 5), (1, address), (2, 16)],
            &[(0, 1), (3, 9)],
        ];
        let one = |registers: &&[(u8, u32)]| {
            let put = registers.iter().flat_map(|(register, value)| put(*register, *value));
            put.chain([0xcd, 0x80]).collect::<Vec<u8>>()
        };
        calls.iter().flat_map(one).collect::<Vec<u8>>()
    };
    let len = call(0).len() as u32;
    let address = [&[2, 0][..], &port.to_be_bytes(), &[127, 0, 0, 1], &[0; 8]].concat();
    let text = [&call(AT + HEAD + len)[..], name.as_bytes(), &[0], &address].concat();
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let size = HEAD + text.len() as u32;
    [
        &b"\x7fELF\x01\x01\x01"[..],
        &[0; 9],
        &halves(&[2, 3]),
        &words(&[1, AT + HEAD, 52, 0, 0]),
        &halves(&[52, 32, 1, 0, 0, 0]),
        &words(&[1, 0, AT, AT, size, size, 5, 0x1000]),
        &text,
    ]
    .concat()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_calls_of_32_bits_do_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let cgroup = Cgroup::new();
    let mut watch = watch_all(RING, &cgroup, true);
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("of32");
    let port = free_port();
    std::fs::write(&program, of_32_bits("hidden", port)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    if Command::new(&program).current_dir(dir.path()).status().is_err() {
        println!("this kernel runs no programs of 32 bits");
        return;
    }
    let at = dir.path().display();
    cgroup.run(None, &format!("umask 022; cd {at}; ./of32; [ $? = 9 ]"));
    let (told, lost) = watch.told();
    assert_eq!(lost, 0);
    for wanted in ["execute ./of32 ./of32", "Open hidden made 100744", "Delete hidden", "Directory hidden 755 0"] {
        has(&told, &format!("{wanted} in {at}"));
    }
    has(&told, "Raw (2, 1)");
    has(&told, &format!("Bind 17 127.0.0.1:{port}"));
    has(&told, "exit of32 Some(9)");
}

#[test]
fn arguments_are_whole_or_said_to_be_cut_whatever_is_in_them() {
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let long = "x".repeat(3000);
    cgroup.run(
        None,
        &format!("/bin/true \"$(printf '\\377\\376')\" e; /bin/true {long}; /bin/true {long} y; /bin/true $(seq 2000)"),
    );
    // Neither arguments nor variables, and no path that was there before.
    cgroup.run(None, "cp /bin/true /tmp/hw-$$; env -i /tmp/hw-$$; rm /tmp/hw-$$");
    let (told, _) = watch.told();
    has(&told, "execute /bin/true /bin/true|\\xff\\xfe|e");
    has(&told, &format!("execute /bin/true /bin/true|{} cut", &long[..1023]));
    let cut = |begin: &str| told.iter().any(|line| line.starts_with(begin) && line.ends_with(" cut"));
    assert!(cut("execute /bin/true /bin/true|1|2|3|4|5|6|"), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("execute /tmp/hw-") && !line.ends_with("cut")), "{told:#?}");
}

/// Runs a server in the cgroup, and connects so often to the address and port that it has `said`. It takes them as it needs them, and
/// none ends before the server does.
fn serve(cgroup: &Cgroup, script: &str, said: &Path, connections: usize) {
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| cgroup.run(None, script));
        let said = loop {
            match std::fs::read_to_string(said) {
                Ok(said) => break said,
                Err(_) => assert!(!serving.is_finished(), "the server has ended"),
            }
            std::thread::yield_now();
        };
        let (address, port) = said.split_once(' ').unwrap();
        let connect = || std::net::TcpStream::connect((address, port.parse::<u16>().unwrap())).unwrap();
        let connections: Vec<_> = std::iter::repeat_with(connect).take(connections).collect();
        serving.join().unwrap();
        drop(connections);
    });
}

#[test]
fn who_descends_from_a_connection_is_told_with_it() {
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    // A server that begins a program for whoever connects, from an address that is not the server's own. For the second one it
    // does not ask who that is. Those that do so from inside after that, from whichever address, are not whoever connected.
    let script = "import ctypes,os,socket,subprocess\n\
        own=[a for a in subprocess.check_output(['hostname','-I'],text=True).split()]\n\
        own=[a for a in own if '.' in a][:1]+[a for a in own if ':' in a][:1]\n\
        if not own: raise SystemExit(9)\n\
        s=socket.create_server(('',0),family=socket.AF_INET6,dualstack_ipv6=True)\n\
        libc=ctypes.CDLL(None)\n\
        def serve(asks,of=0):\n \
            a=s.accept()[0] if asks else socket.socket(fileno=libc.accept(s.fileno(),None,None))\n \
            of=of or a.getpeername()[1]\n \
            subprocess.run(['/bin/sh','-c','/bin/true %d; true' % of])\n \
            return of\n\
        open(SAID+'.new','w').write('%s %d' % (own[0],s.getsockname()[1]))\n\
        os.rename(SAID+'.new',SAID)\n\
        first=serve(True)\n\
        port=serve(False)\n\
        if first==port: raise SystemExit(8)\n\
        for address in own+['127.0.0.1','::1']:\n \
            for asks in (True,False):\n  \
                c=socket.create_connection((address,s.getsockname()[1]))\n  \
                serve(asks,port)\n";
    let dir = tempfile::tempdir().unwrap();
    let (said, file) = (dir.path().join("said"), dir.path().join("server.py"));
    std::fs::write(&file, script.replace("SAID", &format!("{:?}", said.display().to_string()))).unwrap();
    serve(&cgroup, &format!("/bin/true before; python3 {}", file.display()), &said, 2);
    let (mut found, mut record, mut told) = (0, Vec::new(), Vec::new());
    while watch.reader.read(&mut record) {
        let happened = Happened::parse(&record).unwrap();
        let line = line(&happened);
        if let Some(port) = line.strip_prefix("execute /bin/true /bin/true|") {
            let origin = happened.origin.map(|origin| origin.port().to_string());
            assert_eq!(origin.as_deref().unwrap_or("before"), port, "{line}");
            found += usize::from(origin.is_some());
            assert!(origin.is_none() || happened.parent > 1, "{happened:?}");
        }
        told.push(line);
    }
    assert!(found >= 2 + 2 * 3, "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("Listen 6 [::]:")), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("Connect 6 ")), "{told:#?}");
}

#[test]
fn what_does_not_fit_is_counted() {
    let cgroup = Cgroup::new();
    let mut watch = watch(4096, &cgroup);
    cgroup.run(None, "i=0; while [ $i -lt 60 ]; do /bin/true $i; i=$((i+1)); done");
    let (told, lost) = watch.told();
    let kept = told.iter().filter(|line| line.starts_with("execute /bin/true")).count() as u64;
    assert!(kept > 3 && lost > 30, "{kept} {lost}");
    // That each was begun, and that it was over.
    assert_eq!(told.len() as u64 + lost, 2 * 60, "{told:#?}");
    // From there on it goes on.
    cgroup.run(None, "/bin/true again");
    let (told, lost) = watch.told();
    has(&told, "execute /bin/true /bin/true|again");
    assert_eq!(lost, 0);
}

#[test]
fn a_flood_of_files_leaves_room_for_programs() {
    let cgroup = Cgroup::new();
    let mut watch = watch(8192, &cgroup);
    cgroup.run(None, "i=0; while [ $i -lt 200 ]; do : >/dev/null; i=$((i+1)); done; /bin/true hidden");
    let (told, lost) = watch.told();
    has(&told, "execute /bin/true /bin/true|hidden");
    assert!(lost > 100, "{lost}");
    // Nor is there a flood of sockets, which are as cheap.
    let python = "import socket as s\n\
        for _ in range(200): s.socket(s.AF_INET,s.SOCK_RAW,1).close()\n\
        for _ in range(200):\n \
            u=s.socket(s.AF_INET,s.SOCK_DGRAM);u.bind(('127.0.0.1',PORT));u.close()\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flood.py");
    std::fs::write(&file, python.replace("PORT", &free_port().to_string())).unwrap();
    cgroup.run(None, &format!("/usr/bin/python3 {}; /bin/true again", file.display()));
    let (told, lost) = watch.told();
    has(&told, "execute /bin/true /bin/true|again");
    assert!(lost > 200, "{lost}");
}

#[test]
fn a_flood_of_files_in_one_container_leaves_room_for_another() {
    let (one, other) = (Cgroup::new(), Cgroup::new());
    let mut watch = watch(4 << 20, &one);
    let own = std::fs::metadata("/proc/self/ns/pid").unwrap();
    watch.containers.add(other.id(), (own.dev(), own.ino())).unwrap();
    one.run(None, "i=0; while [ $i -lt 40000 ]; do : >/dev/null; i=$((i+1)); done");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other");
    other.run(None, &format!(": >{}", path.display()));
    let (told, lost) = watch.told();
    assert!(lost > 1000, "{lost}");
    assert!(told.iter().any(|line| line.starts_with(&format!("Open {}", path.display()))), "{}", told.len());
}

#[test]
fn ten_thousand_short_processes_are_told_one_and_all() {
    const COUNT: usize = 10_000;
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let script = format!("i=0; while [ $i -lt {COUNT} ]; do /bin/true $i; i=$((i+1)); done");
    let begin = clock::monotonic_micros();
    let (seen, exits, lost) = std::thread::scope(|scope| {
        let running = scope.spawn(|| cgroup.run(None, &script));
        let (mut seen, mut exits, mut lost, mut record) = (BTreeSet::new(), 0, 0, Vec::new());
        loop {
            let is_over = running.is_finished();
            while watch.reader.read(&mut record) {
                let line = line(&Happened::parse(&record).unwrap());
                exits += usize::from(line == "exit true Some(0)");
                seen.extend(line.strip_prefix("execute /bin/true /bin/true|").map(str::to_owned));
            }
            lost += watch.reader.lost();
            if is_over {
                return (seen, exits, lost);
            }
            wait_readable(&[watch.reader.as_fd()], 100_000).unwrap();
        }
    });
    println!("{COUNT} processes in {} ms", (clock::monotonic_micros() - begin) / 1000);
    assert_eq!((seen.len(), exits, lost), (COUNT, COUNT, 0));
}
