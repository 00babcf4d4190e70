//! Long sessions need no more memory than short ones. Each is in a process of its own that does nothing else.

mod peers;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::Instant;

use peers::{Console, Growth, log_in, move_much};

/// Says in which directory the test is that is to be run in a process of its own.
const ALONE: &str = "HWT_LONG_SESSION";

/// Runs the calling test once more, in a process of its own.
fn alone(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("long_session::{test}")]).env(ALONE, dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "it has failed in a process of its own");
}

fn is_less(growth: &Growth, resident: usize, heap: usize) {
    let (grown, used) = growth.grown();
    println!("{growth:?}: {grown} octets more resident, {used} more of the heap");
    assert!(grown < resident && used < heap, "{growth:?}");
}

#[test]
fn a_session_of_a_day_needs_no_more_memory_than_one_of_some_hours() {
    let Some(dir) = std::env::var_os(ALONE) else {
        return alone("a_session_of_a_day_needs_no_more_memory_than_one_of_some_hours");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let dir = PathBuf::from(dir);
    runtime.block_on(async {
        let console = Console::open(&dir);
        let (client, served) = log_in(&console).await;
        let channel = client.channel_open_session().await.unwrap();
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.unwrap();
        channel.request_shell(true).await.unwrap();
        let (mut reading, writing) = channel.split();
        let (mut growth, mut shown) = (Growth::default(), 0);
        growth.look();
        for minute in 1..=24 * 60u64 {
            let next = Instant::now() + Duration::from_secs(60);
            while let Ok(message) = tokio::time::timeout_at(next, reading.wait()).await {
                match message {
                    Some(ChannelMsg::Data { data }) => shown += data.len(),
                    Some(_) => {}
                    None => panic!("it ended in minute {minute}"),
                }
            }
            for key in ["u", "p", "\r"] {
                writing.data_bytes(key).await.unwrap();
            }
            if minute % (6 * 60) == 0 {
                growth.look();
            }
        }
        assert!(console.began.elapsed() >= Duration::from_secs(86_400) && shown > 24 * 60 * 6 * 30, "{shown}");
        writing.eof().await.unwrap();
        while reading.wait().await.is_some() {}
        client.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
        served.await.unwrap();
        is_less(&growth, 2 << 20, 256 << 10);
        let dir = dir.join("sessions/0000000000000007");
        let read = |ending: &str| {
            let all = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
            let file = all.into_iter().find(|path| path.to_str().unwrap().ends_with(ending)).unwrap();
            std::fs::read_to_string(file).unwrap()
        };
        let cast = read("-0001.cast");
        let last: (f64, String, String) = serde_json::from_str(cast.lines().last().unwrap()).unwrap();
        assert!(last.0 >= 86_400.0, "{last:?}");
        let events = cast.lines().skip(1).map(|line| serde_json::from_str::<(f64, String, String)>(line).unwrap());
        let typed: String = events.filter(|(_, kind, _)| kind == "i").map(|(.., keys)| keys).collect();
        assert_eq!(typed, "up\r".repeat(24 * 60));
        let tape = read(".ndjson");
        let total: serde_json::Value = serde_json::from_str(tape.lines().last().unwrap()).unwrap();
        assert_eq!((&total["total"]["lost"], total["at"].as_f64() >= Some(86_400.0)), (&0.into(), true), "{total}");
    });
}

#[test]
fn what_moves_in_a_session_needs_no_memory_by_itself() {
    let Some(dir) = std::env::var_os(ALONE) else {
        return alone("what_moves_in_a_session_needs_no_memory_by_itself");
    };
    // By each of both ways; `make bench-recording` moves a gigabyte.
    const EACH: usize = 128 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let began = Instant::now();
    let growth = runtime.block_on(move_much(&PathBuf::from(dir), EACH));
    println!("{} MB in {:?}", (2 * EACH) >> 20, began.elapsed());
    is_less(&growth, 16 << 20, 8 << 20);
}
