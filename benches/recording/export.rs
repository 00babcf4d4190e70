//! Exporting a session of 1 GB: frames that do not compress, from captures in which a tenth is
//! of others, records, and a transcript.

use std::fs;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Instant;

use honeyweave::event::{SessionId, Utc};
use honeyweave::record::bundle::{self, Job, Key, Sealed, WORK};
use honeyweave::record::transcript::{Terminal, Transcript, TranscriptLimits};
use honeyweave::record::{CaptureLimits, CaptureSet, CaptureSource, Direction, EventLog, LogLimits, Record};

use super::Row;

const ID: SessionId = SessionId(0xabc);
const PASSWORD: &str = "a password";
/// Octets of frames and of a transcript.
const FRAMES: usize = 900_000_000;
const SHOWN: usize = 100_000_000;
const FRAME: usize = 1514;

/// Measures.
pub fn measure() -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a directory");
    make(dir.path());
    let mut rows = Vec::new();
    for (how, password) in [("not encrypted", None), ("encrypted", Some(PASSWORD))] {
        let path = dir.path().join(how);
        let begin = Instant::now();
        let octets = export(dir.path(), &path, password);
        let took = begin.elapsed().as_secs_f64();
        rows.push(row(&format!("export of a session of {} MB, {how}", octets / 1_000_000), octets, took).asked(200.0));
        let begin = Instant::now();
        verify(dir.path(), &path, password);
        rows.push(row(&format!("verification of it, {how}"), octets, begin.elapsed().as_secs_f64()));
    }
    // Checking the password takes 256 MiB.
    rows.push(Row::new("memory of all that at most", memory() / 1e6, "MB", "lower").aim(400.0));
    rows
}

fn row(what: &str, octets: u64, seconds: f64) -> Row {
    Row::new(what, octets as f64 / 1e6 / seconds, "MB/s", "higher")
}

/// The most that this process ever had, in octets.
fn memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("it runs on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
}

fn export(dir: &Path, to: &Path, password: Option<&str>) -> u64 {
    let key = Key::open(dir).expect("a key");
    let job =
        Job { dir, honeynet: "bench", session: ID, key: &key, scratch: dir, now: Utc::from_micros(2_000_000_000) };
    let file = BufWriter::with_capacity(1 << 18, fs::File::create(to).expect("a file"));
    let manifest = match password {
        None => bundle::export(&job, || Ok(file)).expect("an export").1,
        Some(password) => {
            let (sealed, manifest) = bundle::export(&job, || bundle::seal(file, password, WORK)).expect("an export");
            sealed.finish().expect("an end");
            manifest
        }
    };
    assert_eq!(manifest.left_out, Vec::<String>::new());
    manifest.members.iter().map(|member| member.octets).sum()
}

fn verify(dir: &Path, path: &Path, password: Option<&str>) {
    let key = Key::open(dir).expect("a key").public();
    let file = BufReader::with_capacity(1 << 18, fs::File::open(path).expect("a file"));
    let verified = match Sealed::look(file).expect("a beginning") {
        Sealed::No(plain) => bundle::verify(plain, &key),
        Sealed::Yes(sealed) => bundle::verify(bundle::unseal(sealed, password.expect("one")).expect("it opens"), &key),
    };
    assert!(verified.expect("it can be read").is_good());
}

/// Octets that do not compress.
pub struct Noise(pub u64);

impl Noise {
    /// Makes `octets` such ones.
    pub fn fill(&mut self, octets: &mut [u8]) {
        for part in octets.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            part.copy_from_slice(&self.0.to_le_bytes()[..part.len()]);
        }
    }
}

fn make(dir: &Path) {
    for name in ["events", "captures", "key", &format!("sessions/{ID}")] {
        fs::create_dir_all(dir.join(name)).expect("a directory");
    }
    Key::open_or_make(dir).expect("a key");
    let mut log = EventLog::open(&dir.join("events"), LogLimits::default(), Utc::EPOCH).expect("a log");
    for number in 0..10_000 {
        let id = if number % 2 == 0 { ID } else { SessionId(0xdef) };
        let text = format!(
            r#"{{"v":1,"seq":0,"time":"1970-01-01T00:10:00.000000Z","session":"{id}","event":"tcp.open","src":{{"ip":"192.0.2.9"}},"dst":{{"ip":"10.0.0.1","port":22}},"proto":"tcp"}}"#
        );
        log.push(&mut serde_json::from_str::<Record>(&text).expect("a record"));
    }
    log.flush(Utc::EPOCH);
    let limits =
        CaptureLimits { series_bytes: 4 << 30, total_bytes: 4 << 30, flow_bytes: u64::MAX, ..CaptureLimits::default() };
    let mut captures = CaptureSet::open(&dir.join("captures"), limits).expect("captures");
    let source = |name: &str| CaptureSource { series: name.into(), interface: name.into(), about: "bench".into() };
    let (wire, inside) = (source("eth0"), source("lan-10.0.0.1"));
    let mut frame = vec![0; FRAME];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let frames = FRAMES / FRAME;
    for number in 0..frames + frames / 9 {
        noise.fill(&mut frame[34..]);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[26..30].copy_from_slice(&[192, 0, 2, 9]);
        frame[30..34].copy_from_slice(&[10, 0, 0, 1 + u8::from(number % 10 == 9)]);
        let at = 600_000_000_000 + number as u64 * 1000;
        let (source, direction) = if number % 2 == 0 { (&wire, Direction::In) } else { (&inside, Direction::Out) };
        captures.frame(source, at, direction, FRAME as u32, &frame);
    }
    captures.close_all();
    let files = dir.join("sessions").join(ID.to_string());
    let mut cast = Transcript::create(&files, "ssh-1", Terminal::default(), TranscriptLimits::default(), Utc::EPOCH)
        .expect("a cast");
    let line = "total 64 drwxr-xr-x 18 root root 4096 Nov 29 23:31 usr drwxr-xr-x 11 root root 4096 var\r\n".repeat(10);
    for number in 0..SHOWN / line.len() {
        cast.output(Utc::from_micros(number as i64), line.as_bytes());
    }
    cast.finish(Utc::EPOCH).expect("an end");
}
