//! Programs that serve a connection each.

use super::*;

fn script(command: &[&str], timeout_secs: u32) -> Script {
    Script { command: command.iter().map(|&word| word.into()).collect(), timeout_secs, max_running: 2 }
}

#[test]
fn scripts_serve_connections_confined() {
    let lines =
        "while read line; do [ \"$line\" = quit ] && exit; echo \"$HONEYD_IP_SRC:$HONEYD_SRC_PORT $line\"; done";
    let report = "id -u; grep -c : /proc/net/dev; (sleep 600 &) ; echo $HONEYD_IP_DST $HONEYD_DST_PORT $HONEYWEAVE_NET";
    let scripts = vec![
        script(&["/bin/sh", "-c", lines], 60),
        script(&["/bin/sh", "-c", report], 60),
        script(&["/bin/sleep", "600"], 1),
        script(&["/nonexistent/program"], 1),
    ];
    let mut keeper = Keeper::start(config(scripts));
    let name = keeper.config.name.clone();
    let open = |keeper: &mut Keeper, conn: u64, script: u16| -> Result<std::fs::File, String> {
        let (peer, local) = ("192.0.2.7:4242".parse().unwrap(), "10.77.0.9:23".parse().unwrap());
        keeper.say(&ToKeeper::Script { conn, script, peer, local });
        keeper.hear("the script", |message, fds| match message {
            FromKeeper::ScriptOpen { conn: of } if *of == conn => Some(Ok(std::fs::File::from(fds.pop().unwrap()))),
            FromKeeper::ScriptFailed { conn: of, why } if *of == conn => Some(Err(why.clone())),
            _ => None,
        })
    };
    let mut echo = open(&mut keeper, 1, 0).unwrap();
    echo.write_all(b"hello\nquit\n").unwrap();
    let mut text = String::new();
    echo.read_to_string(&mut text).unwrap();
    assert_eq!(text, "192.0.2.7:4242 hello\n");
    let mut text = String::new();
    open(&mut keeper, 2, 1).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["61982", "1", &format!("10.77.0.9 23 {name}")]);
    // Two may run; the third is refused, until the first two ran out of time.
    let began = Instant::now();
    let mut slow = [open(&mut keeper, 3, 2).unwrap(), open(&mut keeper, 4, 2).unwrap()];
    assert!(open(&mut keeper, 5, 2).unwrap_err().contains("max_running"));
    for socket in &mut slow {
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert!(open(&mut keeper, 6, 3).unwrap_err().contains("/nonexistent/program cannot be started"));
    assert!(open(&mut keeper, 7, 9).unwrap_err().contains("no script 9"));
    wait_for("room for another", || open(&mut keeper, 8, 2).ok());
    let me = keeper.child.id();
    keeper.end();
    let parent = |pid: i32| honeyweave::container::worker::parent_of(pid) == Some(me as i32);
    assert_eq!(processes(parent), Vec::<i32>::new());
}
