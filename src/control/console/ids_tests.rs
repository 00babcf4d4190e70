use std::io::Write;

use super::*;
use crate::event::Utc;

const EVE: &str = "/var/log/eve.json";
const NOW: i64 = 1_796_000_000_000_000;
const OFFSET: i64 = 1_795_000_000_000_000;

fn line(sid: u64, at: i64) -> String {
    let time = Utc::from_micros(at).to_string().replace('Z', "+0000");
    format!(
        "{{\"timestamp\":\"{time}\",\"event_type\":\"alert\",\"src_ip\":\"192.0.2.9\",\"src_port\":40000,\
         \"dest_ip\":\"10.0.0.5\",\"dest_port\":80,\"proto\":\"TCP\",\"alert\":{{\"signature_id\":{sid},\
         \"signature\":\"a rule\"}}}}\n"
    )
}

struct Sensor {
    dir: tempfile::TempDir,
    follower: Follower,
}

impl Sensor {
    fn new() -> Sensor {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("events")).unwrap();
        let follower = Follower::new(dir.path(), EVE.as_ref(), NOW);
        Sensor { dir, follower }
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn give(&mut self, name: &str) {
        self.follower.next.push_back((File::open(self.dir.path().join(name)).unwrap(), NOW - OFFSET));
    }

    /// The numbers of the rules that are told of.
    fn told(&mut self) -> Vec<u64> {
        while self.follower.read(NOW, NOW - OFFSET) {}
        self.follower.save(i64::MAX);
        let sid = |said: Said| match said.event.id {
            EventId::IdsAlert => serde_json::from_slice::<serde_json::Value>(&said.data).unwrap()["sid"].as_u64(),
            _ => Some(1_000_000 + said.event.count),
        };
        self.follower.told(NOW - OFFSET).into_iter().filter_map(sid).collect()
    }

    /// Another console takes over.
    fn restart(&mut self) {
        self.follower = Follower::new(self.dir.path(), EVE.as_ref(), NOW);
    }
}

#[test]
fn a_file_is_followed_through_halves_rotation_and_truncation() {
    let mut sensor = Sensor::new();
    assert_eq!(sensor.told(), [0; 0], "there is no file yet");
    sensor.append("eve", &line(1, NOW));
    sensor.give("eve");
    assert_eq!(sensor.told(), [1]);
    let (half, rest) = (&line(2, NOW)[..50], &line(2, NOW)[50..]);
    sensor.append("eve", half);
    assert_eq!(sensor.told(), [0; 0]);
    sensor.append("eve", rest);
    assert_eq!(sensor.told(), [2]);
    // The sensor writes on to the old file until it hears of the rotation.
    fs::rename(sensor.dir.path().join("eve"), sensor.dir.path().join("eve.1")).unwrap();
    sensor.append("eve.1", &line(3, NOW));
    sensor.append("eve", &line(4, NOW));
    sensor.give("eve");
    assert_eq!(sensor.told(), [3, 4]);
    // Or one is made for it before it has heard.
    fs::rename(sensor.dir.path().join("eve"), sensor.dir.path().join("eve.2")).unwrap();
    sensor.append("eve", "");
    sensor.give("eve");
    assert_eq!(sensor.told(), [0; 0]);
    sensor.append("eve.2", &line(41, NOW));
    assert_eq!(sensor.told(), [41]);
    sensor.append("eve", &line(42, NOW));
    assert_eq!(sensor.told(), [42]);
    // Emptied in place.
    fs::write(sensor.dir.path().join("eve"), "").unwrap();
    assert_eq!(sensor.told(), [0; 0]);
    sensor.append("eve", &line(5, NOW));
    assert_eq!(sensor.told(), [5]);
}

#[test]
fn a_console_that_starts_anew_tells_nothing_twice_and_leaves_nothing_out() {
    let mut sensor = Sensor::new();
    sensor.append("eve", &format!("{}{}{}", line(1, NOW), line(2, NOW), &line(3, NOW)[..30]));
    sensor.give("eve");
    assert_eq!(sensor.told(), [1, 2]);
    sensor.restart();
    sensor.append("eve", &format!("{}{}", &line(3, NOW)[30..], line(4, NOW - 3_600_000_000)));
    sensor.give("eve");
    assert_eq!(sensor.told(), [3, 4]);
    // It was rotated while nobody looked.
    sensor.restart();
    fs::rename(sensor.dir.path().join("eve"), sensor.dir.path().join("eve.1")).unwrap();
    sensor.append("eve", &line(5, NOW));
    sensor.give("eve");
    assert_eq!(sensor.told(), [1_000_001, 5], "nobody knows what else there was");
    fs::write(sensor.dir.path().join(PLACE), "no place").unwrap();
    sensor.restart();
    sensor.give("eve");
    assert_eq!(sensor.told(), [5], "it cannot know");
}

#[test]
fn what_was_there_before_the_honeynet_is_not_told() {
    let mut sensor = Sensor::new();
    sensor.append("eve", &line(1, NOW - 3_600_000_000));
    sensor.append("eve", &line(2, NOW));
    sensor.give("eve");
    assert_eq!(sensor.told(), [2]);
    // Of years of it only the end is read.
    let mut sensor = Sensor::new();
    let file = File::create(sensor.dir.path().join("eve")).unwrap();
    file.set_len(3 * TAIL).unwrap();
    sensor.append("eve", &format!("\n{}", line(7, NOW)));
    sensor.give("eve");
    assert!(sensor.follower.read(NOW, NOW - OFFSET));
    assert!(sensor.follower.file.as_ref().unwrap().1.octets > 2 * TAIL - 1000);
    assert_eq!(sensor.told(), [7]);
}

#[test]
fn a_clock_that_is_far_off_and_a_flood() {
    let mut sensor = Sensor::new();
    sensor.append("eve", &line(1, NOW + 10 * APART_MICROS));
    sensor.give("eve");
    while sensor.follower.read(NOW, NOW - OFFSET) {}
    let said = sensor.follower.told(NOW - OFFSET);
    assert_eq!(said[0].event.at.total_micros(), NOW - OFFSET, "it is now, then");
    assert_eq!((said[0].event.src.l4_port, said[0].event.dst.l4_port, said[0].event.proto), (40_000, 80, 6));
    let many: String = (0..5000).map(|sid| line(sid, NOW)).collect();
    sensor.append("eve", &many);
    let told = sensor.told();
    assert_eq!(told.len(), ALERTS.1 as usize);
    assert_eq!(told.last(), Some(&(1_000_000 + 5000 - (ALERTS.1 - 1))), "the rest is counted");
    assert_eq!(sensor.told(), [0; 0]);
}

#[test]
fn of_a_flood_that_does_not_end_it_is_told_each_second_how_much_was_left_out() {
    let mut sensor = Sensor::new();
    sensor.append("eve", "");
    sensor.give("eve");
    let (mut alerts, mut gaps, mut left_out) = (0, 0, 0);
    let mut count = |said: Vec<Said>| {
        for Said { event, .. } in said {
            match event.id {
                EventId::Gap => (gaps, left_out) = (gaps + 1, left_out + event.count),
                _ => alerts += 1,
            }
        }
        (alerts, gaps, left_out)
    };
    // A few of the 4,000 a second are told each time.
    for quarter in 0..40 {
        let utc = NOW + quarter * 250_000;
        sensor.append("eve", &(0..1000).map(|sid| line(sid, utc)).collect::<String>());
        while sensor.follower.read(utc, utc - OFFSET) {}
        count(sensor.follower.told(utc - OFFSET));
    }
    let (alerts, gaps, left_out) = count(sensor.follower.uncounted(NOW - OFFSET).into_iter().collect());
    assert!((10..=12).contains(&gaps), "{gaps} times in ten seconds");
    assert_eq!(alerts + left_out, 40_000, "each is told or counted");
}

#[test]
fn of_a_file_that_is_gone_before_it_was_read_the_time_is_told() {
    let gap = |sensor: &mut Sensor, utc: i64| {
        while sensor.follower.read(utc, utc - OFFSET) {}
        sensor.follower.save(i64::MAX);
        let said = sensor.follower.told(utc - OFFSET);
        let gaps = said.into_iter().filter(|said| said.event.id == EventId::Gap);
        gaps.map(|said| (said.event.count, String::from_utf8(said.data).unwrap())).collect::<Vec<_>>()
    };
    let (read, back) = (Utc::from_micros(NOW), Utc::from_micros(NOW + 60_000_000));
    let mut sensor = Sensor::new();
    sensor.append("eve", &line(1, NOW));
    sensor.give("eve");
    assert_eq!(gap(&mut sensor, NOW), []);
    // That it was not written to meanwhile is known as long as it is there.
    sensor.restart();
    sensor.give("eve");
    assert_eq!(gap(&mut sensor, back.micros()), []);
    sensor.restart();
    fs::rename(sensor.dir.path().join("eve"), sensor.dir.path().join("eve.1")).unwrap();
    sensor.append("eve", "");
    sensor.give("eve");
    let [(1, told)] = &gap(&mut sensor, back.micros())[..] else { panic!("one gap") };
    let times = format!("alerts from {read} until {back}, if there were any, are not told");
    assert_eq!(*told, format!("ids: the sensor's file was replaced while nobody read it; {times}"));
    assert_eq!(gap(&mut sensor, back.micros()), [], "once");
    // What was read of the new one is known from then on.
    sensor.restart();
    sensor.give("eve");
    assert_eq!(gap(&mut sensor, back.micros()), []);
    sensor.append("eve", &line(2, NOW));
    assert_eq!(gap(&mut sensor, NOW), []);
    sensor.restart();
    fs::write(sensor.dir.path().join("eve"), "").unwrap();
    sensor.give("eve");
    let told = gap(&mut sensor, back.micros());
    assert_eq!(told, [(1, format!("ids: the sensor's file was emptied while nobody read it; {times}"))]);
}

#[test]
fn a_file_that_is_emptied_while_much_of_it_is_unread_is_told_of() {
    let mut sensor = Sensor::new();
    let file = File::create(sensor.dir.path().join("eve")).unwrap();
    file.set_len(PIECE as u64 + 1000).unwrap();
    sensor.give("eve");
    assert!(sensor.follower.read(NOW, NOW - OFFSET), "there is more");
    file.set_len(10).unwrap();
    sensor.follower.read(NOW, NOW - OFFSET);
    let told = sensor.follower.told(NOW - OFFSET);
    let text = String::from_utf8_lossy(&told[0].data).into_owned();
    assert!(text.contains("emptied before 1000 octets of it were read"), "{text}");
    assert_eq!((told.len(), told[0].event.id), (1, EventId::Gap));
}

#[test]
fn of_lines_that_cannot_be_read_the_first_of_a_file_is_told_with_its_place() {
    let mut sensor = Sensor::new();
    sensor.append("eve", &line(1, NOW));
    sensor.give("eve");
    assert_eq!((sensor.told(), sensor.follower.broken.clone()), (vec![1], None));
    sensor.append("eve", &format!("{}\n{}no JSON\n", &line(2, NOW)[..60], line(3, NOW)));
    assert_eq!(sensor.told(), [3]);
    let said = sensor.follower.broken.clone().unwrap();
    assert!(said.starts_with("/var/log/eve.json: line 2 is nothing that a sensor tells"), "{said}");
    // Of what was not read from its beginning nobody has counted the lines.
    sensor.restart();
    sensor.append("eve", "no JSON\n");
    sensor.give("eve");
    assert_eq!(sensor.told(), [0; 0]);
    let said = sensor.follower.broken.clone().unwrap();
    assert!(said.contains(": about octet "), "{said}");
}
