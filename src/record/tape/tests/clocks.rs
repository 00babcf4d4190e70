//! The wall's clock is set while somebody types.

use super::*;
use crate::event::Now;

const HOUR: i64 = 3_600_000_000;
const SECOND: i64 = 1_000_000;

/// Times by the wall's clock, and by the steady one, so many microseconds apart.
fn at(steady: i64, ahead: i64) -> Now {
    Now { utc: utc(steady + ahead), steady: utc(steady).micros() }
}

#[test]
fn a_transcript_goes_on_in_time_whatever_is_done_to_the_wall_s_clock() {
    for ahead in [-2 * HOUR, -365 * 24 * HOUR, 91 * 24 * HOUR] {
        let mut lab = Lab::new();
        let session = SESSION;
        lab.begin(7, session);
        let put = |lab: &mut Lab, secs: i64, ahead: i64, entry: Entry| {
            lab.tapes.take(7, Word::Entry((secs * SECOND) as u64, entry), at(secs * SECOND, ahead));
            lab.told.extend(lab.tapes.told());
        };
        put(&mut lab, 1, 0, opened(0));
        put(&mut lab, 1, 0, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
        put(&mut lab, 1, 0, Entry::Shell { channel: 0 });
        put(&mut lab, 1, 0, data(0, Stream::Output, b"$ "));
        put(&mut lab, 2, ahead, data(0, Stream::Input, b"id\r"));
        put(&mut lab, 7200, ahead, data(0, Stream::Output, b"uid=0"));
        put(&mut lab, 7201, ahead, Entry::End { reason: Reason::ClientClosed, detail: None });
        let times: Vec<i64> = moments(&lab.file(".cast")).iter().map(|moment| moment.at / 1_000_000).collect();
        // A transcript begins with its shell.
        assert_eq!(times, [0, 1, 7199], "{ahead}");
        let command = lab.told.iter().find(|notice| notice.event.id == EventId::ShellCommand).unwrap();
        assert_eq!(command.at, utc(2 * SECOND), "as its transcript has it");
    }
}

#[test]
fn a_time_that_nobody_can_know_yet_is_not_believed() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, opened(0));
    lab.put(7, 1, Entry::Pty { channel: 0, term: text("xterm"), columns: 80, rows: 24 });
    lab.put(7, 1, Entry::Shell { channel: 0 });
    let year = 365 * 24 * HOUR;
    lab.tapes.take(7, Word::Entry(year as u64, data(0, Stream::Input, b"id\r")), at(SECOND, 0));
    lab.told.extend(lab.tapes.told());
    let command = lab.told.iter().find(|notice| notice.event.id == EventId::ShellCommand).unwrap();
    assert_eq!(command.at, utc(SECOND + HOUR));
}

#[test]
fn what_the_switch_was_in_the_middle_of_ends_with_it_although_the_clock_was_set_back() {
    let mut lab = Lab::new();
    lab.begin(7, SESSION);
    lab.put(7, 1, hello());
    let ended = at(60 * SECOND, -2 * HOUR);
    lab.tapes.switch_ended(ended.utc, ended);
    lab.tapes.tend(at(60 * SECOND + SECOND / 2, -2 * HOUR));
    assert_eq!(lab.tapes.stats().open, 1, "its last words are on their way");
    lab.tapes.tend(at(62 * SECOND, -2 * HOUR));
    assert_eq!(lab.tapes.stats().open, 0);
}

#[test]
fn who_goes_on_with_it_knows_how_long_it_lasts_although_the_clock_was_set_meanwhile() {
    for ahead in [-2 * HOUR, -365 * 24 * HOUR, 91 * 24 * HOUR] {
        let mut lab = Lab::new();
        lab.begin(7, SESSION);
        lab.put(7, SECOND as u64, hello());
        lab.tapes.flush(7, at(SECOND, 0));
        let next = Lab::tapes(lab.dir.path(), TapeLimits::default(), false, &lab.space);
        std::mem::forget(std::mem::replace(&mut lab.tapes, next));
        lab.tapes.remember(at(10 * SECOND, ahead).utc);
        // Ten seconds of silence, and the honeynet ends.
        let ended = at(20 * SECOND, ahead);
        lab.tapes.retain(&[7], ended);
        lab.tapes.ending(ended.utc, ended);
        lab.tapes.switch_ended(ended.utc, ended);
        lab.tapes.tend(at(22 * SECOND, ahead));
        lab.told.extend(lab.tapes.told());
        let closed = lab.told.iter().find(|notice| notice.event.id == EventId::SshClose).unwrap();
        assert_eq!((closed.event.count, closed.at), (20 * SECOND as u64, utc(20 * SECOND)), "{ahead}");
    }
}
