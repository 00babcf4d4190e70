//! What servers begin: for whoever is connected to them, and for nobody.

use std::process::Command;

use super::super::*;
use super::{Cgroup, line, serve, watch};

/// Programs that servers begin, by what they have of a connection by then. `accept` waits for the next one; what is begun is to be
/// of the port that is its argument, or of nobody's.
const SERVERS: &str = "import os,socket,sys
s=socket.create_server(('',0))
if not OWN: raise SystemExit(9)
open(SAID+'.new','w').write('%s %d' % (OWN,s.getsockname()[1]))
os.rename(SAID+'.new',SAID)
def begin(word,*closed):
    pid=os.fork()
    if not pid:
        for one in closed: one.close()
        os.execv('/bin/true',['/bin/true',str(word)])
    os.waitpid(pid,0)
def apart(act):
    pid=os.fork()
    if not pid:
        act()
        os._exit(0)
    if os.waitpid(pid,0)[1]: raise SystemExit(7)
def accept():
    a,of=s.accept()
    return a,of[1]
def forks():
    # As sshd, PostgreSQL and inetd do: a worker of its own is nobody's, whatever lies where the connection was.
    for number in range(3):
        a,of=accept()
        begin(of)
        begin(of,a)
        a.close()
        begin('nobody')
        again=[open('/dev/null') for _ in range(2)]+[socket.socket() for _ in range(70)]
        begin('nobody')
def many_descriptors():
    more=[open('/dev/null') for _ in range(100)]
    a,of=accept()
    begin(of)
    more.append(os.dup2(a.fileno(),0))
    a.close()
    begin(of)
    os.dup2(more[0].fileno(),0)
    begin('nobody')
def executes():
    a,of=accept()
    os.dup2(a.fileno(),0)
    a.close()
    os.execv('/bin/sh',['/bin/sh','-c','exec </dev/null; /bin/true %d; /bin/true %d' % (of,of)])
def several():
    # It may be for the first.
    (a,_),(b,of)=accept(),accept()
    b.close()
    begin(of)
    c,of=accept()
    c.close()
    begin(of)
def intruders():
    a,of=accept()
    def theirs():
        a.close()
        b,other=accept()
        begin(other)
        b.close()
        begin(of)
    apart(theirs)
    a.close()
    begin('nobody')
for act in forks,many_descriptors,executes,several,intruders: apart(act)
";

#[test]
fn what_a_server_begins_for_nobody_is_nobodys() {
    const CONNECTIONS: usize = 3 + 1 + 1 + 3 + 2;
    let cgroup = Cgroup::new();
    let mut watch = watch(RING, &cgroup);
    let dir = tempfile::tempdir().unwrap();
    let (said, file) = (dir.path().join("said"), dir.path().join("server.py"));
    let addresses = Command::new("hostname").arg("-I").output().unwrap().stdout;
    let addresses = String::from_utf8(addresses).unwrap();
    let own = addresses.split_whitespace().find(|address| address.contains('.')).expect("an address of this machine");
    let script =
        SERVERS.replace("SAID", &format!("{:?}", said.display().to_string())).replace("OWN", &format!("{own:?}"));
    std::fs::write(&file, script).unwrap();
    serve(&cgroup, &format!("python3 {}", file.display()), &said, CONNECTIONS);
    let (mut told, mut record) = (Vec::new(), Vec::new());
    while watch.reader.read(&mut record) {
        let happened = Happened::parse(&record).unwrap();
        if let Some(wanted) = line(&happened).strip_prefix("execute /bin/true /bin/true|") {
            let of = happened.origin.map_or("nobody".to_owned(), |origin| origin.port().to_string());
            told.push((wanted.to_owned(), of));
        }
    }
    assert_eq!((told.len(), watch.reader.lost()), (3 * 4 + 3 + 2 + 2 + 3, 0), "{told:?}");
    assert!(told.iter().all(|(wanted, of)| wanted == of), "{told:?}");
}
