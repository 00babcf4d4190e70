use proptest::prelude::*;

use super::super::fingerprint::{IdPattern, IsnPattern, Opt};
use super::super::personality::IpIdClass;
use super::schema::{self, EchoKey, Key, Slot, UdpKey};
use super::*;

/// Invented systems in the database's format.
const POINTS: &str = "\
# A comment.
MatchPoints
SEQ(SP=10%GCD=17%ISR=24%TI=31%CI=38%II=4%SS=11%TS=18)
OPS(O1=25%O2=32%O3=39%O4=5%O5=12%O6=19)
WIN(W1=26%W2=33%W3=40%W4=6%W5=13%W6=20)
ECN(R=27%DF=34%T=41%TG=7%W=14%O=21%CC=28%Q=35)
T1(R=42%DF=8%T=15%TG=22%S=29%A=36%F=43%RD=9%Q=16)
T4(R=23%DF=30%T=37%TG=3%W=10%S=17%A=24%F=31%O=38%RD=4%Q=11)
T5(R=18%DF=25%T=32%TG=39%W=5%S=12%A=19%F=26%O=33%RD=40%Q=6)
T6(R=13%DF=20%T=27%TG=34%W=41%S=7%A=14%F=21%O=28%RD=35%Q=42)
U1(R=8%DF=15%T=22%TG=29%IPL=36%UN=43%RIPL=9%RID=16%RIPCK=23%RUCK=30%RUD=37)
IE(R=3%DFI=10%T=17%TG=24%CD=31)
";
const ALPHA: &str = "\
Fingerprint Example Alpha 2.1 router
Class Example | Linux | 2.X || router
CPE cpe:/h:example:alpha
SEQ(SP=C1-CD%GCD=1-6%ISR=C3-D1%TI=Z%CI=I%II=I%TS=7)
OPS(O1=M577ST11NW3%O2=M577ST11NW3%O3=M577NNT11NW3%O4=M577ST11NW3%O5=M577ST11NW3%O6=M577ST11)
WIN(W1=3A10%W2=3A10%W3=3A10%W4=3A10%W5=3A10%W6=3A10)
ECN(R=Y%DF=Y%T=5A-64%TG=80%W=3B20%O=M577NNSNW3%CC=Y%Q=)
T1(R=Y%DF=Y%T=5A-64%TG=80%S=O%A=S+%F=AS%RD=0%Q=)
T2(R=N)
T3(R=N)
T4(R=Y%DF=Y%T=5A-64%TG=80%W=0%S=A%A=Z%F=R%O=%RD=1234ABCD%Q=)
T5(R=Y%DF=N%T=5A-64%TG=80%W=0%S=Z%A=S+%F=AR%O=%RD=0%Q=)
T6(R=Y%DF=N%T=5A-64%TG=80%W=0%S=A%A=Z%F=R%O=%RD=0%Q=U)
T7(R=N)
U1(DF=N%T=5A-64%TG=80%IPL=164%UN=0%RIPL=G%RID=G%RIPCK=G%RUCK=G%RUD=G)
IE(DFI=N%T=5A-64%TG=80%CD=S)
";

fn database(records: &[&str]) -> Db {
    Db::parse([&[POINTS], records].concat().join("\n").as_bytes()).unwrap()
}

/// Alpha with other lines in place of those that begin as they do.
fn alpha_with(name: &str, lines: &[&str]) -> String {
    let replaced = ALPHA.lines().map(|line| {
        let test = line.split('(').next().unwrap_or_default();
        match lines.iter().find(|other| line.contains('(') && other.split('(').next() == Some(test)) {
            Some(other) => other,
            None => line,
        }
    });
    let text: Vec<&str> = replaced.collect();
    text.join("\n").replace("Example Alpha 2.1 router", name) + "\n"
}

fn chosen(records: &[&str], name: &str) -> (Choice, Observation) {
    let choice = personality(&database(records), name, 7).unwrap();
    let seen = observe(choice.personality.fingerprint.as_ref().unwrap());
    (choice, seen)
}

#[test]
fn alternatives_that_are_not_last_are_prefixes() {
    assert!(expr::accepts_prefix("A|AS", "AS"));
    assert!(expr::accepts_prefix("A|R", "AS") && !expr::accepts_whole("A|R", "AS"));
    assert!(expr::accepts_prefix("|U", "R") && !expr::accepts_whole("|U", "R"));
    assert!(expr::accepts("|U", "") && expr::accepts("|U", "U"));
    assert!(!expr::accepts_prefix("R|A", "AS"));
    assert!(expr::accepts("", "") && !expr::accepts("", "A"));
}

#[test]
fn numbers_before_a_range_do_not_match() {
    assert!(!expr::accepts_prefix("5|8-A", "5") && expr::accepts_whole("5|8-A", "5"));
    assert!(expr::accepts("5|8-A", "9") && expr::accepts("8-A|5", "5"));
    assert!(expr::accepts("G|8-A", "G"));
    assert_eq!(expr::candidates("5|8-A"), ["9", "A", "8"]);
}

#[test]
fn ranges_are_for_hexadecimal_values_only() {
    assert!(expr::accepts("0-FF", "7f") && !expr::accepts_either("0-FF", "7G"));
    assert!(expr::accepts(">10", "11") && !expr::accepts_either(">10", "10"));
    assert!(expr::accepts("<10", "F") && !expr::accepts_either("<10", ""));
    assert!(!expr::accepts_either("0-FF", "11111111111111111"));
    assert_eq!(expr::candidates("1-5|20")[..2], ["3", "20"]);
    assert!(expr::check("1-0").is_err() && expr::check("x-9").is_err() && expr::check("<").is_err());
    assert!(expr::check("|A|1-2|<4|>5|M5B4NW0").is_ok());
}

#[test]
fn options_are_read_and_written() {
    for text in ["", "M577ST11NW3", "WCNM20FT10S", "T01LL", "M41ACST11NW6"] {
        assert_eq!(options::write(&options::parse(text).unwrap()), text);
    }
    for text in ["M", "MFFFFF", "T1", "T12", "X", "N", "W100N", "T11NNT11NNT11NNT11NN", "Té"] {
        assert_eq!(options::parse(text), None, "{text}");
    }
    let full = options::parse("M577ST11NW3").unwrap();
    assert_eq!(options::write(&options::without(&full, options::is_timestamps)), "M577SNNNW3");
    let padded = options::parse("M577NW0NNT11").unwrap();
    assert_eq!(options::write(&options::without(&padded, options::is_timestamps)), "M577NW0");
}

#[test]
fn four_octets_have_any_crc() {
    assert_eq!(crc::crc32(b"123456789"), 0xcbf4_3926);
    for crc in [0, 1, 0xdead_beef, u32::MAX] {
        assert_eq!(crc::crc32(&crc::preimage(crc)), crc);
    }
}

#[test]
fn slots_have_the_names_of_their_tests() {
    assert_eq!(schema::ops(5).names(), ("OPS", "O6"));
    assert_eq!(schema::tcp(7, Key::Q).names(), ("T7", "Q"));
    assert_eq!(schema::tcp(4, Key::Rd).as_tcp(), Some((4, Key::Rd)));
    assert_eq!(schema::u1(UdpKey::Rud).names(), ("U1", "RUD"));
    assert_eq!(schema::ie(EchoKey::Cd).names(), ("IE", "CD"));
    assert_eq!(Slot::all().last(), Some(schema::ie(EchoKey::Cd)));
}

#[test]
fn a_record_is_shown_as_it_is_described() {
    let (choice, seen) = chosen(&[ALPHA], "Example Alpha 2.1 router");
    assert!(choice.is_perfect && choice.expected_first && choice.rivals == 0, "{choice:?}");
    assert_eq!(choice.not_reproduced, [""; 0]);
    let value = |slot| seen.get(slot).unwrap();
    assert_eq!(value(schema::SP), "C7");
    assert_eq!(value(schema::ISR), "CA");
    assert_eq!(value(schema::TI), "Z");
    assert_eq!(value(schema::tcp(1, Key::T)), "5F");
    assert_eq!(value(schema::tcp(4, Key::Rd)), "1234ABCD");
    assert_eq!(value(schema::tcp(6, Key::Q)), "U");
    assert_eq!(seen.get(schema::SS), None);
    let p = &choice.personality;
    assert!(p.is_linux && p.tcp_df && !p.rst_df && p.ttl == 0x5f);
    assert_eq!((p.mss, p.window_scale, p.syn_ack_window, p.ts_hz), (0x577, 3, 0x3a10, 100));
    assert_eq!((p.ip_id, p.syn_ack_ip_id), (IpIdClass::PerPeer, IpIdClass::Zero));
    assert_eq!((p.echo_df, p.echo_code_zero, p.icmp_quote, p.icmp_error_tos), (Some(false), false, 528, 0xc0));
    assert_eq!(options::write(&p.syn_ack_options.no_timestamps), "M577NNSNW3");
    assert_eq!(options::write(&p.syn_ack_options.no_scale), "M577ST11");
}

#[test]
fn sequence_numbers_follow_a_greatest_common_divisor() {
    for (line, sp, gcd) in [
        ("SEQ(SP=0-5%GCD=FA00|1F400%ISR=96-A0%TI=I%CI=I%II=I%SS=S%TS=7)", "0", "FA00"),
        ("SEQ(SP=0%GCD=1-6%ISR=1A-20%TI=I%CI=I%II=I%SS=O%TS=7)", "0", "1"),
        ("SEQ(SP=0%GCD=0%ISR=0%TI=I%CI=I%II=RI%SS=S%TS=7)", "0", "0"),
        ("SEQ(SP=20-24%GCD=A%ISR=54-58%TI=I%CI=BI%II=I%SS=S%TS=7)", "23", "A"),
    ] {
        let (choice, seen) = chosen(&[&alpha_with("Numbers", &[line])], "Numbers");
        assert!(choice.is_perfect && choice.not_reproduced.is_empty(), "{line} {:?}", choice.not_reproduced);
        assert_eq!((seen.get(schema::SP), seen.get(schema::GCD)), (Some(sp), Some(gcd)), "{line}");
    }
}

#[test]
fn far_ttls_seem_to_come_a_longer_way() {
    let line = "T1(R=Y%DF=Y%T=102%TG=FF%S=O%A=S+%F=AS%RD=0%Q=)";
    let (choice, seen) = chosen(&[&alpha_with("Far", &[line])], "Far");
    assert!(choice.is_perfect);
    let fingerprint = choice.personality.fingerprint.unwrap();
    assert_eq!(fingerprint.t1.unwrap().ttl, 255);
    assert_eq!(fingerprint.udp.unwrap().quoted_ttl_less, 3);
    assert_eq!(seen.get(schema::tcp(5, Key::T)), Some("5F"));
}

#[test]
fn timestamps_that_contradict_the_clock_come_late() {
    let line = "OPS(O1=M577NNT11%O2=M577NNT11%O3=M577%O4=M577NNT11%O5=M577NNT11%O6=M577)";
    let (choice, seen) = chosen(&[&alpha_with("Late", &[line])], "Late");
    assert!(choice.is_perfect);
    let syn = choice.personality.fingerprint.unwrap().syn.unwrap();
    let late: Vec<bool> = syn.iter().map(|answer| answer.only_repeated).collect();
    assert_eq!(late, [false, false, true, false, false, true]);
    assert_eq!(syn[5].options, [Opt::Mss(0x577)]);
    assert_eq!(seen.get(schema::TS), Some("7"));
}

#[test]
fn what_cannot_be_shown_is_left_out() {
    let lines = ["SEQ(SP=0%GCD=1-6%ISR=0%TI=1F%CI=RD%II=I%TS=2)", "U1(DF=N%T=5A-64%TG=80%IPL=6401%UN=0)"];
    let (choice, seen) = chosen(&[&alpha_with("Odd", &lines)], "Odd");
    assert!(choice.is_perfect, "{seen}");
    let fingerprint = choice.personality.fingerprint.as_ref().unwrap();
    assert_eq!(fingerprint.seq.ci, IdPattern::Unclassified);
    assert_eq!(fingerprint.udp, None);
    let tests: Vec<&str> = choice.not_reproduced.iter().map(|what| what.split(['=', ':']).next().unwrap()).collect();
    assert_eq!(tests, ["SEQ.SP", "SEQ.GCD", "SEQ.ISR", "SEQ.TI", "SEQ.CI", "SEQ.TS", "U1"]);
}

#[test]
fn silence_is_kept() {
    let lines = [
        "OPS(R=N)", "WIN(R=N)", "SEQ(R=N)", "ECN(R=N)", "T1(R=N)", "T4(R=N)", "T5(R=N)", "T6(R=N)", "U1(R=N)",
        "IE(R=N)",
    ];
    let (choice, seen) = chosen(&[&alpha_with("Silent", &lines)], "Silent");
    assert!(choice.is_perfect);
    assert_eq!(seen.to_string().matches("R=N").count(), 10);
    assert_eq!(choice.personality.fingerprint.unwrap().syn, None);
}

#[test]
fn rivals_are_evaded() {
    // The same but for the end of one range, and for what Alpha does not say.
    let wide = alpha_with("Wide", &["WIN(W1=3000-4000%W2=3A10%W3=3A10%W4=3A10%W5=3A10%W6=3A10)"]);
    let (choice, _) = chosen(&[ALPHA, &wide], "Wide");
    assert!(choice.is_perfect && choice.rivals == 0);
    let narrow = alpha_with("Narrow", &["SEQ(SP=C5-C9%GCD=1-6%ISR=C7-CD%TI=Z%CI=I%II=I%TS=7)"]);
    let (choice, seen) = chosen(&[&narrow, ALPHA], "Example Alpha 2.1 router");
    assert!(choice.is_perfect && choice.rivals == 0, "{seen}");
    let same = alpha_with("Same", &[]);
    let (choice, _) = chosen(&[&same, ALPHA], "Example Alpha 2.1 router");
    assert!(choice.is_perfect && choice.rivals == 1 && !choice.expected_first);
    let (choice, _) = chosen(&[ALPHA, &same], "Example Alpha 2.1 router");
    assert!(choice.expected_first);
}

#[test]
fn the_usual_record_of_a_name_is_taken() {
    // Whatever the seed, and wherever it stands: the one that was taken by Ethernet, with the TTL of its family.
    let lines = ["OPS(O1=M5B4ST11NW7%O2=M5B4ST11NW7%O3=M5B4NNT11NW7%O4=M5B4ST11NW7%O5=M5B4ST11NW7%O6=M5B4ST11)"];
    let usual = alpha_with("Linux 9", &lines).replace("T=5A-64%TG=80", "T=3C-46%TG=40");
    let loopback = alpha_with("Linux 9", &[&lines[0].replace("M5B4", "MFFD7")]);
    let far = alpha_with("Linux 9", &lines);
    for order in [[&usual, &loopback, &far], [&loopback, &far, &usual], [&far, &usual, &loopback]] {
        let db = database(&order.map(|text| text.as_str()));
        for seed in 0..8 {
            let personality = personality(&db, "Linux 9", seed).unwrap().personality;
            // Not 65, which is the middle.
            assert_eq!((personality.ttl, personality.mss, personality.window_scale), (64, 1460, 7));
        }
    }
}

#[test]
fn names_are_found() {
    let db = database(&[ALPHA, &alpha_with("Example Alphabet 3", &[]), &alpha_with("Other 2.1", &[])]);
    let names = |query: &str| db.search(query).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names("alpha"), ["Example Alpha 2.1 router", "Example Alphabet 3"]);
    assert_eq!(names("2.1 ROUT"), ["Example Alpha 2.1 router"]);
    assert_eq!(names("exmaple phab"), ["Example Alphabet 3"]);
    assert_eq!(names("2.2"), [""; 0]);
    assert_eq!(names(" ()"), [""; 0]);
    let missing = personality(&db, "Example Alpha", 0).unwrap_err();
    assert_eq!(missing.similar.as_deref(), Some("Example Alpha 2.1 router"));
}

#[test]
fn broken_lines_are_complained_about() {
    let text = format!(
        "stray(\n{POINTS}\nSEQ(SP=1)\n{ALPHA}T7(R=Y)\n\nFingerprint Broken\nSEQ(SP=9-1%XX=3%GCD=1%GCD=2)\nT9(R=N)\nT2(R=N\n\
         {}\nFingerprint\n\nFingerprint Empty\n\u{0}\u{1}\n",
        "x".repeat(10_000)
    );
    let db = Db::parse(text.as_bytes()).unwrap();
    let (complaints, all) = db.complaints();
    let text: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(all, 12, "{text:#?}");
    assert!(text[0].starts_with("line 1: `stray` is no test"), "{text:#?}");
    assert!(text.iter().any(|what| what.ends_with("T7 is there twice; this one is ignored")));
    assert!(text.iter().any(|what| what.ends_with("SEQ.SP: a range that ends before it begins")));
    assert_eq!(db.records().len(), 2);
    assert!(personality(&db, "Broken", 0).is_ok());
}

#[test]
fn complaints_are_bounded() {
    let db = Db::parse(format!("{ALPHA}{}", "\nnonsense".repeat(1_000_000)).as_bytes()).unwrap();
    assert_eq!((db.complaints().0.len(), db.complaints().1), (20, 1_000_001));
    assert!(personality(&db, "Example Alpha 2.1 router", 0).unwrap().is_perfect);
}

#[test]
fn what_is_no_database_is_refused() {
    let error = Db::parse(b"\x7fELF\nfoo").unwrap_err().to_string();
    assert!(error.contains("2 lines") && error.contains("line 1") && error.contains("nmap-os-db"), "{error}");
    assert!(Db::parse(b"").is_err());
    assert!(Db::parse(POINTS.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_octets_are_met(octets: Vec<u8>) {
        let _ = Db::parse(&octets);
    }

    #[test]
    fn any_expression_is_met(expression in "[0-9A-FSGx|<>-]{0,24}", value in "[0-9A-FSGx+]{0,20}") {
        let _ = expr::check(&expression);
        expr::accepts(&expression, &value);
        for candidate in expr::candidates(&expression) {
            prop_assert!(expr::accepts(&expression, &candidate));
        }
    }

    #[test]
    fn any_record_is_met(
        lines in prop::collection::vec(("(SEQ|OPS|WIN|ECN|T[1-7]|U1|IE)", "[A-Z]{1,5}[1-6]?=[0-9A-FZSOYNRUTMW+|<>-]{0,12}"), 1..16),
        broken in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
    ) {
        let lines: Vec<String> = lines.into_iter().map(|(test, attribute)| format!("{test}({attribute}%R=Y)")).collect();
        let mut text = format!("{POINTS}\nFingerprint Any\n{}\n\n{ALPHA}", lines.join("\n")).into_bytes();
        for (at, octet) in broken {
            let at = at.index(text.len());
            text[at] = octet;
        }
        if let Ok(db) = Db::parse(&text) {
            for at in 0..db.records().len() {
                let choice = of_record(&db, at, 1).unwrap();
                let seen = observe(choice.personality.fingerprint.as_ref().unwrap());
                prop_assert!(!choice.is_perfect || db.score(&db.records()[at], &seen).is_perfect());
            }
        }
    }
}

#[test]
fn the_installed_database_is_shown() {
    // A step of 1 takes all of it, which takes its time without optimization.
    const STEP: usize = 20;
    let Ok(text) = std::fs::read("/usr/share/nmap/nmap-os-db") else {
        println!("SKIPPED: nmap-os-db is not installed");
        return;
    };
    let db = Db::parse(&text).unwrap();
    assert_eq!(db.complaints().1, 0, "{:?}", db.complaints().0);
    let mut names: Vec<&str> = db.records().iter().map(|record| &*record.name).collect();
    names.sort_unstable();
    names.dedup();
    let (mut all, mut perfect, mut first) = (0, 0, 0);
    for name in names.into_iter().step_by(STEP) {
        let choice = personality(&db, name, 3).unwrap();
        let fingerprint = choice.personality.fingerprint.as_ref().unwrap();
        let seen = observe(fingerprint);
        let matches = |record: &Record| db.score(record, &seen).is_perfect();
        assert_eq!(choice.is_perfect, db.find(name).any(|(_, record)| matches(record)), "{name}");
        assert!(!matches!(fingerprint.seq.isn, IsnPattern::Constant(0)), "{name}");
        let sent = fingerprint.open.iter().chain(&fingerprint.closed).chain([&fingerprint.ecn]).flatten();
        let longest = sent.map(|answer| options::octets(&answer.options)).max().unwrap_or(0);
        assert!(longest <= 40, "{name}");
        all += 1;
        perfect += usize::from(choice.is_perfect);
        first += usize::from(choice.expected_first);
    }
    assert!(perfect * 1000 >= all * 995, "{perfect} of {all} are shown as they are described");
    assert!(first * 1000 >= all * 980, "{first} of {all} are listed first");
}
