use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

const ID: SessionId = SessionId(0xabc);
const SCREEN: Place = Place::Screen { colors: true };

/// A session whose recordings a test writes by hand.
struct Lab {
    dir: tempfile::TempDir,
    shown: Shown,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sessions").join(ID.to_string())).unwrap();
        Lab { dir, shown: Shown::new(16, SCREEN) }
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.dir.path().join("sessions").join(ID.to_string()).join(name);
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Has `text` be shown in a cast.
    fn cast(&self, name: &str, text: &str) {
        let path = self.dir.path().join("sessions").join(ID.to_string()).join(name);
        if !path.exists() {
            self.append(name, "{\"version\":2,\"width\":80,\"height\":24}\n");
        }
        self.append(name, &format!("[1.0,\"o\",\"{text}\"]\n"));
    }

    /// What is shown until there is nothing more at once.
    fn look(&mut self) -> String {
        let mut all = self.shown.seek(self.dir.path(), ID).unwrap();
        let mut more = true;
        while more {
            let mut show = |text: &str| {
                all += text;
                Ok(true)
            };
            more = self.shown.turn(&mut show).unwrap().unwrap();
        }
        all += &self.shown.ended();
        all.replace(SCREEN.reset(), "|").replace('\n', "/")
    }
}

#[test]
fn a_command_does_not_lead_away_from_a_shell() {
    let mut lab = Lab::new();
    // One that was over before, and the shell.
    lab.append("20260101T000000Z-ssh-01.ndjson", "{\"at\":1,\"total\":{}}\n");
    lab.cast("20260101T000000Z-ssh-01-0000-0001.cast", "old");
    lab.append("20260101T000000Z-ssh-02.ndjson", "{\"at\":1,\"shell\":{\"channel\":0}}\n");
    lab.cast("20260101T000000Z-ssh-02-0000-0001.cast", "shell");
    assert_eq!(lab.look(), "shell");
    // `ssh host true` beside it.
    lab.append("20260101T000001Z-ssh-03.ndjson", "{\"at\":1,\"total\":{}}\n");
    lab.cast("20260101T000001Z-ssh-03-0000-0001.cast", "true");
    assert_eq!(lab.look(), "|(20260101T000001Z-ssh-03-0000)/true|(a connection is over; transcripts that go on: 1)/");
    assert_eq!(lab.look(), "");
    lab.cast("20260101T000000Z-ssh-02-0000-0001.cast", "on");
    assert_eq!(lab.look(), "|(20260101T000000Z-ssh-02-0000)/on");
    lab.cast("20260101T000000Z-ssh-02-0000-0001.cast", "more");
    assert_eq!(lab.look(), "more");
    // The clock is set back, and a channel comes and goes.
    lab.cast("20250101T000000Z-ssh-04-0007-0001.cast", "back");
    lab.append("20250101T000000Z-ssh-04.ndjson", "{\"at\":1,\"closed\":{\"channel\":7}}\n");
    assert_eq!(lab.look(), "|(20250101T000000Z-ssh-04-0007)/back");
    assert_eq!(lab.shown.each.len(), 1);
    lab.append("20250101T000000Z-ssh-04.ndjson", "{\"at\":2,\"total\":{}}\n");
    assert_eq!(lab.look(), "|(a connection is over; transcripts that go on: 1)/");
    // A long one goes on in its next part.
    lab.cast("20260101T000000Z-ssh-02-0000-0001.cast", "end");
    lab.cast("20260101T000000Z-ssh-02-0000-0002.cast", "begin");
    assert_eq!(lab.look(), "|(20260101T000000Z-ssh-02-0000)/endbegin");
    assert_eq!(lab.shown.each.len(), 1);
    lab.append("20260101T000000Z-ssh-02.ndjson", "{\"at\":2,\"total\":{}}\n");
    assert!(lab.look().starts_with("|(the connection is over; another one"));
    assert!(lab.shown.each.is_empty() && lab.shown.tapes.is_empty());
}

#[test]
fn of_what_is_over_the_newest_is_shown_and_of_what_goes_on_all() {
    let mut lab = Lab::new();
    for conn in 1..=3 {
        lab.append(&format!("20260101T000000Z-ssh-0{conn}.ndjson"), "{\"at\":1,\"total\":{}}\n");
        lab.cast(&format!("20260101T000000Z-ssh-0{conn}-0000-0001.cast"), "old");
    }
    assert!(lab.look().starts_with("old|(the connection is over;"));
    let mut lab = Lab::new();
    for channel in 1..=3 {
        lab.cast(&format!("20260101T000000Z-ssh-01-000{channel}-0001.cast"), "x");
    }
    lab.append("20260101T000000Z-ssh-01.ndjson", "{\"at\":1,\"closed\":{\"channel\":2}}\n");
    assert_eq!(lab.look(), "|(20260101T000000Z-ssh-01-0001)/x|(20260101T000000Z-ssh-01-0003)/x");
    // Nobody looks any more.
    lab.cast("20260101T000000Z-ssh-01-0003-0001.cast", "y");
    assert_eq!(lab.shown.turn(&mut |_| Ok(false)).unwrap(), None);
}

#[test]
fn of_very_many_some_are_followed() {
    let mut lab = Lab::new();
    for channel in 0..18 {
        lab.cast(&format!("20260101T000000Z-ssh-01-{channel:04}-0001.cast"), "x");
    }
    assert!(lab.look().starts_with("|(only 16 transcripts"));
    // There is room for the others.
    for channel in 0..16 {
        lab.append("20260101T000000Z-ssh-01.ndjson", &format!("{{\"at\":1,\"closed\":{{\"channel\":{channel}}}}}\n"));
    }
    assert_eq!(lab.look(), "");
    assert_eq!(lab.look(), "|(20260101T000000Z-ssh-01-0016)/x|(20260101T000000Z-ssh-01-0017)/x");
}

#[test]
fn an_end_of_everything_ends_what_had_begun() {
    let record = |event: &str, at: i64, rest: &str| {
        let time = Utc::from_micros(at * 1_000_000);
        serde_json::from_str::<Record>(&format!(r#"{{"v":1,"seq":1,"time":"{time}","event":"{event}"{rest}}}"#))
            .unwrap()
    };
    let said = |at: i64, reason: &str| record("process.state", at, &format!(r#","reason":"{reason}""#));
    let end_of = |record: &Record| end_of(record, ID, Utc::from_micros(10_000_000));
    assert_eq!(end_of(&record("session.end", 11, r#","session":"0000000000000abc""#)), Some(SESSION));
    assert_eq!(end_of(&record("session.end", 11, r#","session":"0000000000000abd""#)), None);
    assert_eq!(end_of(&said(11, "the switch was ended by signal 9")), Some(SESSION));
    assert_eq!(end_of(&said(11, "the switch was started (process 7)")), Some(SESSION));
    assert_eq!(end_of(&said(11, "the honeynet ends: by signal 2")), Some(HONEYNET));
    // That of a run before, and those of others.
    assert_eq!(end_of(&said(9, "the honeynet ends: by signal 2")), None);
    assert_eq!(end_of(&said(11, "the console was ended by signal 9")), None);
}
