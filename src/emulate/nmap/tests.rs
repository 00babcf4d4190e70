use super::*;

/// A database of two systems that nobody has.
const SMALL: &str = "\
MatchPoints
SEQ(SP=25%GCD=75%ISR=25%TI=100%CI=50%II=100%SS=80%TS=100)
OPS(O1=20%O2=20%O3=20%O4=20%O5=20%O6=20)
WIN(W1=15%W2=15%W3=15%W4=15%W5=15%W6=15)
ECN(R=100%DF=20%T=15%TG=15%W=15%O=15%CC=100%Q=20)
T1(R=100%DF=20%T=15%TG=15%S=20%A=20%F=30%RD=20%Q=20)
T5(R=100%DF=20%T=15%TG=15%W=25%S=20%A=20%F=30%O=10%RD=20%Q=20)
U1(R=50%DF=20%T=15%TG=15%IPL=100%UN=100%RIPL=100%RID=100%RIPCK=100%RUCK=100%RUD=100)
IE(R=50%DFI=40%T=15%TG=15%CD=100)

Fingerprint Toaster OS 1.0 - 2.0
Class Crumbs | embedded || specialized
SEQ(SP=90-A0%GCD=1-6%ISR=98-A2%TI=I|RD%TS=7)
OPS(O1=M5B4NW3NNT11|M5B4%O2=M578NW3NNT11%O3=M280NW3NNT11%O4=M5B4NW3NNT11%O5=M218NW3NNT11%O6=M109NNT11)
WIN(W1=1000-2000%W2=1000%W3=1000%W4=1000%W5=1000%W6=1000)
ECN(R=Y%DF=Y%T=3B-45%TG=40%W=1000%O=M5B4NW3%CC=N%Q=)
T1(R=Y%DF=Y%T=3B-45%TG=40%S=O%A=S+%F=AS%RD=0%Q=)
T5(R=Y%DF=N%T=3B-45%TG=40%W=0%S=Z%A=S+%F=AR%O=%RD=1A2B3C4D%Q=)
U1(DF=N%T=3B-45%TG=40%IPL=38%UN=0%RIPL=G%RID=4210%RIPCK=Z%RUCK=G%RUD=G)
IE(DFI=S%T=3B-45%TG=40%CD=S)

Fingerprint Kettle Linux 9
Class Steam | Linux | 9 | specialized
SEQ(SP=0-5%GCD=FA00%ISR=9C%TI=Z%CI=Z%II=I%TS=U)
OPS(R=N)
WIN(R=N)
ECN(R=N)
T1(R=N)
T5(R=Y%DF=Y%T=FA-104%TG=FF%W=0%S=Z%A=S+%F=AR%O=%RD=0%Q=)
U1(R=N)
IE(R=N)
";

fn small() -> Db {
    Db::parse(SMALL.as_bytes()).unwrap()
}

#[test]
fn a_database_is_taken_apart() {
    let db = small();
    assert_eq!(db.complaints, []);
    assert_eq!(db.names().collect::<Vec<_>>(), ["Kettle Linux 9", "Toaster OS 1.0 - 2.0"]);
    let found = |query| db.search(query).first().map(|(_, name)| *name);
    assert_eq!(found("toaster 2.0"), Some("Toaster OS 1.0 - 2.0"));
    assert_eq!(found("ketle"), Some("Kettle Linux 9"));
    assert_eq!((found("fridge"), found("")), (None, None));
}

#[test]
fn a_name_is_reproduced_and_no_other() {
    let db = small();
    for name in ["Toaster OS 1.0 - 2.0", "Kettle Linux 9"] {
        let choice = personality(&db, name, 1).unwrap();
        assert_eq!((choice.not_reproduced.len(), choice.rivals, choice.expected_first), (0, 0, true), "{choice:?}");
        assert_eq!(choice.personality.is_linux, name.contains("Linux"));
    }
    let toaster = personality(&db, "Toaster OS 1.0 - 2.0", 1).unwrap().personality;
    let fingerprint = toaster.fingerprint.unwrap();
    assert_eq!(crc::crc32(&fingerprint.closed[0].as_ref().unwrap().data), 0x1a2b_3c4d);
    assert_eq!((toaster.mss, toaster.window_scale, toaster.ts_hz), (1460, 3, 100));
    let kettle = personality(&db, "Kettle Linux 9", 1).unwrap().personality.fingerprint.unwrap();
    assert_eq!((kettle.syn, kettle.t1, kettle.udp, kettle.echo), (None, None, None, None));
    assert_eq!(personality(&db, "Toaster", 1).err(), Some(NoSuch));
}

#[test]
fn expressions_are_read_as_both_versions_do() {
    for (expression, yes, no) in [
        ("A|AS", vec!["AS"], vec!["A|", "S", ""]),
        ("1-6", vec!["1", "6", "3"], vec!["7", "0", "X"]),
        (">FA|5", vec!["FB"], vec!["FA"]),
        ("", vec![""], vec!["U"]),
        ("I|RD", vec!["I", "RD"], vec!["BI"]),
    ] {
        for value in yes {
            assert!(expr::accepts(expression, value), "{expression} {value}");
        }
        for value in no {
            assert!(!expr::accepts(expression, value), "{expression} {value}");
        }
    }
    // An alternative that is not the last takes what begins with it, in 7.93.
    assert!(expr::accepts_prefix("A|AS", "AXE") && !expr::accepts_whole("A|AS", "AXE"));
    // A number before a range is never taken, in 7.93.
    assert!(!expr::accepts_prefix("5|10-20", "5") && expr::accepts_whole("5|10-20", "5"));
}

#[test]
fn what_is_broken_is_left_out_and_told() {
    let line = |text: &str, with: &str| SMALL.replacen(text, with, 1);
    for (broken, why) in [
        (line("GCD=1-6", "GCD=6-1"), "a range that ends before it begins"),
        (line("TI=I|RD", "TI"), "has no `=`"),
        (line("CI=Z", "ZI=Z"), "has no `ZI`"),
        (line("DFI=S%", "DFI=S%DFI=S%"), "twice"),
        (line("IE(R=N)", "\u{1b}[2Jgarbage"), "nothing that belongs here"),
        (line("Class Steam", &"x".repeat(5000)), "too many for a line"),
    ] {
        let db = Db::parse(broken.as_bytes()).unwrap();
        assert_eq!(db.complaints.len(), 1, "{:?}", db.complaints);
        assert!(db.complaints[0].why.contains(why), "{:?}", db.complaints);
        assert!(db.complaints[0].line > 8 && !db.complaints[0].why.contains('\u{1b}'));
        assert_eq!(db.names().count(), 2);
    }
    assert_eq!(Db::parse(b"").err(), Some(Unusable::NoPoints(1)));
    assert_eq!(Db::parse(b"Fingerprint X\n").err(), Some(Unusable::NoPoints(1)));
    assert_eq!(Db::parse(&[0xff; 100]).err(), Some(Unusable::NoPoints(1)));
    let points = SMALL.split("Fingerprint").next().unwrap();
    assert_eq!(Db::parse(points.as_bytes()).err(), Some(Unusable::NoRecords));
    let long = format!("{points}{}", "Fingerprint x\nnonsense\n".repeat(200_000));
    let db = Db::parse(long.as_bytes()).unwrap();
    assert!(db.records().len() <= 100_000 && db.complaints.len() == 20 && db.more_complaints > 90_000);
}

proptest::proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), at in 0usize..2000) {
        let _ = Db::parse(&bytes);
        let mut mixed = SMALL.as_bytes().to_vec();
        let at = at.min(mixed.len());
        mixed.splice(at..(at + bytes.len() / 8).min(SMALL.len()).max(at), bytes.iter().copied());
        if let Ok(db) = Db::parse(&mixed) {
            for name in db.names().map(str::to_owned).collect::<Vec<_>>() {
                let _ = personality(&db, &name, 1);
            }
        }
    }
}

/// Every so manieth name of the database that nmap has put on this machine is reproduced.
#[test]
fn names_of_the_real_database_are_reproduced() {
    let Ok(text) = std::fs::read("/usr/share/nmap/nmap-os-db") else {
        println!("SKIPPED: nmap's database is not on this machine (package nmap-common)");
        return;
    };
    let every = std::env::var("HONEYWEAVE_TEST_EVERY").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let db = Db::parse(&text).unwrap();
    assert_eq!(db.complaints, []);
    let names: Vec<&str> = db.names().step_by(every).collect();
    let (mut perfect, mut first, mut sole) = (0, 0, 0);
    let start = std::time::Instant::now();
    for name in &names {
        let choice = personality(&db, name, 1).unwrap();
        perfect += usize::from(choice.not_reproduced.is_empty());
        first += usize::from(choice.expected_first);
        sole += usize::from(choice.expected_first && choice.rivals == 0);
        if !choice.expected_first {
            println!("{name}: {} rivals, {:?}", choice.rivals, choice.not_reproduced);
        }
    }
    println!(
        "{} names: {perfect} perfect, {first} first, {sole} sole; {:?} a name",
        names.len(),
        start.elapsed() / names.len() as u32
    );
    assert!(perfect * 100 >= names.len() * 97, "{perfect} of {}", names.len());
    assert!(first * 100 >= names.len() * 95, "{first} of {}", names.len());
}
