use std::path::Path;

use super::super::left_out::sum;
use super::*;

/// A tape with so many commands of so many octets, behind a log-in.
fn tape(dir: &Path, number: usize, commands: usize, octets: usize) -> Belonging {
    let name = format!("20260131T120000Z-ssh-{number:016x}{TAPE}");
    let mut text = String::from(
        "{\"at\":0,\"begin\":{\"protocol\":\"ssh\",\"time\":\"2026-01-31T12:00:00.000000Z\"}}\n\
         {\"at\":1,\"attempt\":{\"user\":\"root\",\"credential\":{\"password\":{\"password\":\"x\"}},\"accepted\":true}}\n",
    );
    for command in 0..commands {
        let command = format!("{number} {command} {}", "x".repeat(octets));
        text += &format!("{{\"at\":2,\"exec\":{{\"channel\":1,\"command\":\"{command}\"}}}}\n");
    }
    let path = dir.join(&name);
    std::fs::write(&path, &text).unwrap();
    Belonging { name, octets: text.len() as u64, path }
}

fn told(connections: &Connections) -> (usize, usize) {
    let rows = connections.each.iter().map(|of| of.told.commands.len() + of.told.attempts.len()).sum();
    (rows, serde_json::to_string(connections).unwrap().len())
}

#[test]
fn a_session_of_many_connections_is_told_in_bounds_and_the_newest_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<Belonging> = (0..24).map(|number| tape(dir.path(), number, 1000, 1000)).collect();
    let connections = of(&files);
    let (things, octets) = told(&connections);
    assert!((10_000..17_000).contains(&things), "{things}");
    assert!((10 << 20..20 << 20).contains(&octets), "{octets}");
    // Every connection is told, and who was let in. Of the newest everything is.
    assert_eq!(connections.each.len(), 24);
    assert!(connections.each.iter().all(|of| of.told.user.as_deref() == Some("root") && of.told.attempts.len() == 1));
    assert_eq!(connections.each[23].told.commands.len(), 1000);
    assert_eq!(connections.each[0].told.commands.len(), 0);
    // What is in no table is counted.
    let tables: Vec<(&str, Vec<Value>)> = connections.tables(State::Open).collect();
    let rows = |wanted: &str| &tables.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert_eq!((rows("connections").len(), rows("attempts to log in").len()), (24, 24));
    let commands = rows("commands without a shell");
    assert_eq!(commands.len(), ROWS);
    assert!(commands[ROWS - 1]["command"].as_str().unwrap().starts_with("23 999 x"), "{}", commands[ROWS - 1]);
    assert_eq!(commands[0]["connection"], 24);
    assert_eq!(sum(&connections.more()), 24 * 1000 - ROWS as u64);
}

#[test]
fn many_small_things_are_too_many_too() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<Belonging> = (0..24).map(|number| tape(dir.path(), number, 1000, 1)).collect();
    let connections = of(&files);
    assert!((19_000..=20_024).contains(&told(&connections).0), "{:?}", told(&connections));
    assert_eq!(sum(&connections.more()), 24 * 1000 - ROWS as u64);
}

#[test]
fn connections_are_told_in_the_order_that_they_began_in() {
    let dir = tempfile::tempdir().unwrap();
    let tape = |number: u64, protocol: &str, micros: u32, rest: &str| {
        let name = format!("20260131T120000Z-{protocol}-{number:016x}{TAPE}");
        let begin = format!("{{\"protocol\":\"{protocol}\",\"time\":\"2026-01-31T12:00:00.{micros:06}Z\"}}");
        let text = format!("{{\"at\":0,\"begin\":{begin}}}\n{rest}");
        let path = dir.path().join(&name);
        std::fs::write(&path, &text).unwrap();
        Belonging { name, octets: text.len() as u64, path }
    };
    let command = |text: &str| format!("{{\"at\":1,\"command\":{{\"text\":\"{text}\"}}}}\n");
    let exec = "{\"at\":1,\"exec\":{\"channel\":0,\"command\":\"id\"}}\n";
    let question = "{\"at\":0,\"attempt\":{\"user\":\"root\",\"credential\":\"none\",\"accepted\":false}}\n";
    let attempt = question.replace("\"none\"", "{\"password\":{\"password\":\"x\"}}");
    let mut lost = tape(0x20, "telnet", 0, "");
    std::fs::write(&lost.path, command("lost")).unwrap();
    lost.octets = 1;
    let files = [
        tape(0x13, "ssh", 500_000, &format!("{question}{question}{attempt}{exec}")),
        tape(0x11, "smtp", 100_000, &command("EHLO x")),
        tape(0x12, "telnet", 300_000, &command("ls")),
        lost,
    ];
    let connections = of(&files);
    let order: Vec<&str> = connections.each.iter().map(|of| of.told.protocol.as_str()).collect();
    assert_eq!(order, ["smtp", "telnet", "ssh", ""]);
    let tables: std::collections::HashMap<&str, Vec<Value>> = connections.tables(State::Open).collect();
    let said = |name: &str| tables[name].iter().map(|row| row["command"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(said("commands without a shell"), ["id"]);
    assert_eq!(said("lines typed by Telnet"), ["ls"]);
    assert_eq!(said("requests"), ["EHLO x", "lost"]);
    assert_eq!(tables["requests"][0]["connection"], 1);
    // What is counted is what is listed.
    assert_eq!(tables["connections"][2]["attempts"], 1);
    assert_eq!(tables["attempts to log in"].len(), 1);
}

#[test]
fn what_was_done_to_files_has_a_table_within_bounds_and_does_nothing_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut belonging = tape(dir.path(), 1, 0, 0);
    let mut text = std::fs::read_to_string(&belonging.path).unwrap();
    let act = |act: &str, path: &str, to: &str| {
        format!("{{\"at\":3,\"file\":{{\"channel\":2,\"act\":\"{act}\",\"path\":\"{path}\",\"to\":{to}}}}}\n")
    };
    text += &act("rename", "/tmp/a\\u001b[2J", "\"/tmp/b\"");
    for number in 0..1500 {
        text += &act("make-directory", &format!("/tmp/{number}"), "null");
    }
    std::fs::write(&belonging.path, &text).unwrap();
    belonging.octets = text.len() as u64;
    let connections = of(&[belonging]);
    let told = serde_json::to_value(&connections).unwrap();
    let acts = told[0]["acts"].as_array().unwrap();
    assert_eq!((acts.len(), &told[0]["more"]), (1000, &json!(501)));
    assert_eq!(
        acts[0],
        json!({"at": 3.0, "channel": 2, "act": "rename", "path": "/tmp/a?[2J", "to": "/tmp/b"}),
        "{}",
        acts[0]
    );
    let tables: Vec<(&str, Vec<Value>)> = connections.tables(State::Open).collect();
    let (_, rows) = tables.iter().find(|(name, _)| *name == "what SFTP did").unwrap();
    assert_eq!((rows.len(), &rows[ROWS - 1]["path"]), (ROWS, &json!("/tmp/998")));
    assert_eq!(connections.more().iter().map(|More(_, count, _)| count).sum::<u64>(), 501 + (1000 - ROWS) as u64);
}

#[test]
fn what_is_missing_of_a_connection_is_in_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("20260131T120000Z-ssh-{:016x}{TAPE}", 7);
    let text = "{\"at\":0,\"begin\":{\"protocol\":\"ssh\",\"time\":\"2026-01-31T12:00:00.000000Z\",\
        \"attacker\":\"192.0.2.9:4000\",\"host\":\"10.0.0.1:22\"}}\n{\"at\":3,\"lost\":{\"lines\":7}}\n\
        {\"at\":4,\"end\":{\"reason\":\"client-closed\",\"detail\":null}}\n{\"at\":4,\"total\":{\"lost\":6126}}\n";
    let path = dir.path().join(&name);
    std::fs::write(&path, text).unwrap();
    let connections = of(&[Belonging { name, octets: text.len() as u64, path }]);
    let (_, rows) = connections.tables(State::Over).next().unwrap();
    assert_eq!(rows[0]["end"], "closed by the client; not recorded: 7 lines and 6,126 octets");
    assert_eq!((connections.lost(), connections.each[0].told.ports), ((7, 6126), Some((4000, 22))));
}
