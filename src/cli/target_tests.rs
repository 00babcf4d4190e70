use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use super::*;

/// Places of honeynets on a machine of the test's own.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Lab {
        let lab = Lab(tempfile::tempdir().unwrap());
        fs::create_dir(lab.run()).unwrap();
        fs::create_dir(lab.state("default")).unwrap();
        lab
    }

    fn run(&self) -> PathBuf {
        self.0.path().join("run")
    }

    fn state(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dir(&self, place: &str) -> PathBuf {
        self.0.path().join(place)
    }

    /// A honeynet has left something at `STATE/NAME`.
    fn lies(&self, place: &str) {
        fs::create_dir_all(self.dir(place).join(EVENTS)).unwrap();
    }

    /// One runs there, and says so whenever it is asked.
    fn runs(&self, place: &str) {
        self.lies(place);
        let dir = self.dir(place);
        let name = dir.file_name().unwrap().to_str().unwrap();
        let listener = UnixListener::bind(self.run().join(format!("{name}.sock"))).unwrap();
        let answer = serde_json::json!({"ok": {"dir": dir}}).to_string() + "\n";
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                let mut request = String::new();
                while stream.read_line(&mut request).is_ok_and(|read| read > 0) {
                    let _ = stream.get_mut().write_all(answer.as_bytes());
                }
            }
        });
    }

    fn target(&self, name: Option<&str>, state: Option<&str>) -> Target {
        Target { name: name.map(str::to_owned), state_dir: state.map(|state| self.state(state)) }
    }

    /// What is chosen to be read, and to be spoken to.
    fn chosen(&self, name: Option<&str>, state: Option<&str>) -> (String, String) {
        let target = self.target(name, state);
        let told = |error: miette::Report| {
            let help = error.help().map_or(String::new(), |help| help.to_string());
            format!("{error} ({help})")
        };
        let read = target.directory_in(&self.run(), &self.state("default"));
        let read = read.map_or_else(told, |dir| dir.strip_prefix(self.0.path()).unwrap().display().to_string());
        let spoken = target.connect_in(&self.run()).map_or_else(told, |client| client.name);
        (read, spoken)
    }
}

#[track_caller]
fn both(chosen: (String, String), read: &str, spoken: &str) {
    assert!(chosen.0.contains(read) && chosen.1.contains(spoken), "{chosen:?}");
}

#[test]
fn where_none_is_that_is_said() {
    let lab = Lab::new();
    both(lab.chosen(None, None), "no honeynet runs, and none has left anything in ", "no honeynet is running");
    both(
        lab.chosen(Some("office"), None),
        "no honeynet has left anything in ",
        "no honeynet called `office` is running",
    );
    both(lab.chosen(None, Some("missing")), "no such directory", "no such directory");
    both(lab.chosen(None, Some("default")), "no honeynet has left anything in ", "no honeynet has left anything in ");
    for name in ["", "..", "../x", "a/b"] {
        both(lab.chosen(Some(name), None), "cannot be the name", "cannot be the name");
        both(lab.chosen(Some(name), Some("default")), "cannot be the name", "cannot be the name");
    }
    fs::write(lab.state("file"), "").unwrap();
    both(lab.chosen(None, Some("file")), "Not a directory", "Not a directory");
}

#[test]
fn the_only_one_need_not_be_named() {
    let lab = Lab::new();
    lab.lies("default/ended");
    both(lab.chosen(None, None), "default/ended", "no honeynet is running");
    both(lab.chosen(None, Some("default")), "default/ended", "the honeynet `ended` in ");
    both(lab.chosen(Some("ended"), None), "default/ended", "no honeynet called `ended` is running");
    lab.runs("other/office");
    // What runs comes before what has ended, unless somebody says where or which.
    both(lab.chosen(None, None), "other/office", "office");
    both(lab.chosen(None, Some("default")), "default/ended", "the honeynet `ended` in ");
    both(lab.chosen(None, Some("other")), "other/office", "office");
    both(lab.chosen(None, Some("other/office")), "other/office", "office");
    both(lab.chosen(Some("office"), None), "other/office", "office");
    // Both are said: one of that name that runs elsewhere is another one.
    both(lab.chosen(Some("office"), Some("other")), "other/office", "office");
    let elsewhere = lab.chosen(Some("office"), Some("default"));
    assert!(elsewhere.0 == elsewhere.1 && elsewhere.0.contains("default"), "{elsewhere:?}");
    lab.lies("default/office");
    both(lab.chosen(Some("office"), Some("default")), "default/office", "the honeynet `office` in ");
}

#[test]
fn of_several_that_run_the_directory_says_which() {
    let lab = Lab::new();
    lab.runs("one/office");
    lab.runs("two/plant");
    both(lab.chosen(None, None), "several honeynets are running: office, plant", "several honeynets are running");
    both(lab.chosen(None, Some("one")), "one/office", "office");
    both(lab.chosen(None, Some("two")), "two/plant", "plant");
    both(lab.chosen(Some("plant"), None), "two/plant", "plant");
    // Of those that lie there the one that runs.
    lab.lies("two/archive");
    both(lab.chosen(None, Some("two")), "two/plant", "plant");
    both(lab.chosen(Some("archive"), Some("two")), "two/archive", "the honeynet `archive` in ");
    both(lab.chosen(Some("none"), Some("two")), "these have: archive, plant", "these have: archive, plant");
    lab.runs("two/shop");
    let told = "run: plant, shop (say which with --name NAME";
    both(lab.chosen(None, Some("two")), told, told);
}

#[test]
fn of_several_that_have_ended_none_is_meant() {
    let lab = Lab::new();
    lab.lies("default/a");
    lab.lies("default/b\u{1b}[2J");
    let told = ": a, b\\u{1b}[2J (say which with --name NAME";
    both(lab.chosen(None, None), told, "no honeynet is running");
    both(lab.chosen(None, Some("default")), told, told);
    // One that runs under the name of one of them lies elsewhere.
    lab.runs("other/a");
    both(lab.chosen(None, Some("default")), told, told);
    both(lab.chosen(Some("a"), Some("default")), "default/a", "a");
    both(lab.chosen(Some("a"), None), "other/a", "a");
}

#[test]
fn those_that_are_told_of_together_are_each_there_once() {
    let lab = Lab::new();
    lab.lies("default/ended");
    lab.runs("default/office");
    lab.runs("other/plant");
    lab.lies("other/shop");
    let all = |name, state| {
        let all = lab.target(name, state).all_in(&lab.run(), &lab.state("default")).unwrap();
        let place = |lying: &Lying| lying.dir.strip_prefix(lab.0.path()).unwrap().display().to_string();
        all.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(all(None, None), ["default/ended", "default/office", "other/plant"]);
    assert_eq!(all(None, Some("other")), ["other/plant", "other/shop"]);
    assert_eq!(all(Some("plant"), None), ["other/plant"]);
    // Of one that somebody has copied there may be evidence alone.
    fs::create_dir_all(lab.dir("copy/theirs/evidence")).unwrap();
    assert_eq!(all(None, Some("copy")), ["copy/theirs"]);
    assert_eq!(all(Some("theirs"), Some("copy")), ["copy/theirs"]);
    both(lab.chosen(None, Some("copy")), "no honeynet has left anything in ", "no honeynet has left anything in ");
    for (name, state) in [(Some("none"), None), (None, Some("missing"))] {
        assert!(lab.target(name, state).all_in(&lab.run(), &lab.state("default")).is_err());
    }
}

#[test]
fn one_that_hangs_is_the_one_that_its_name_says() {
    let lab = Lab::new();
    lab.lies("one/office");
    let _hangs = UnixListener::bind(lab.run().join("office.sock")).unwrap();
    let target = lab.target(None, Some("one"));
    assert_eq!(target.connect_in(&lab.run()).unwrap().name, "office");
}
