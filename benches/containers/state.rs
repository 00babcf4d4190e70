//! What the kernel says of a honeynet's containers and processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{Lab, process};
use crate::net::wait_for;

/// The cgroups of its containers that can freeze them.
fn freezers(lab: &Lab) -> Vec<PathBuf> {
    let payload =
        |group: &PathBuf| group.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lxc.payload."));
    let freezes = |group: &PathBuf| group.join("freezer.state").exists() || group.join("cgroup.freeze").exists();
    let mut groups: Vec<PathBuf> = lab.cgroups().into_iter().filter(payload).filter(freezes).collect();
    // With version 1, the empty tree of version 2 beside it freezes, too, but it is not what is used.
    if groups.iter().any(|group| group.join("freezer.state").exists()) {
        groups.retain(|group| group.join("freezer.state").exists());
    }
    groups
}

fn is_frozen(group: &Path) -> bool {
    fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
        || fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1"))
}

/// How many of its containers are frozen.
pub fn frozen(lab: &Lab) -> usize {
    freezers(lab).iter().filter(|group| is_frozen(group)).count()
}

/// How long it takes to freeze and thaw one of its containers by its cgroup, until the kernel says that it is done.
pub fn switch_freezer(lab: &Lab, samples: u64) -> (Vec<Duration>, Vec<Duration>) {
    let group = freezers(lab).pop().expect("a container runs");
    let (file, words) = match group.join("freezer.state") {
        state if state.exists() => (state, ["FROZEN", "THAWED"]),
        _ => (group.join("cgroup.freeze"), ["1", "0"]),
    };
    let switch = |frozen: bool| {
        let began = Instant::now();
        fs::write(&file, words[usize::from(!frozen)]).expect("the freezer");
        while is_frozen(&group) != frozen {
            assert!(began.elapsed() < Duration::from_secs(10), "{} does not change", file.display());
        }
        began.elapsed()
    };
    switch(false);
    (0..samples).map(|_| (switch(true), switch(false))).unzip()
}

/// KiB of memory that programs could have.
pub fn available_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&text, "MemAvailable:")
}

fn kib(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// KiB of memory that a process has, with its share of what several have.
pub fn pss_kib(pid: i32) -> u64 {
    kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

/// The processes in its containers, and the monitors of those.
pub fn containers(lab: &Lab) -> (Vec<i32>, Vec<i32>) {
    let (mut inits, mut monitors) = (Vec::new(), Vec::new());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.starts_with("[lxc monitor]") && line.contains(&lab.name) {
            monitors.push(pid);
            let children = fs::read_to_string(entry.path().join(format!("task/{pid}/children"))).unwrap_or_default();
            inits.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    (inits, monitors)
}

/// What a honeynet has that it should have no more of after any number of containers.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Each with its unit.
    pub figures: Vec<(String, f64, &'static str)>,
}

/// Waits until nothing of a container is left but what stays, and looks.
pub fn quiet(lab: &Lab) -> Snapshot {
    wait_for("the last container to be gone", || (live_files(lab) == 0 && lab.cgroups().is_empty()).then_some(()));
    snapshot(lab)
}

/// Directories of containers.
fn live_files(lab: &Lab) -> usize {
    let entries = fs::read_dir(lab.own_dir().join("containers")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("hw-")).count()
}

fn snapshot(lab: &Lab) -> Snapshot {
    let mut figures = Vec::new();
    let mut put = |what: &str, value: f64, unit: &'static str| figures.push((what.to_owned(), value, unit));
    let (inits, monitors) = containers(lab);
    put("processes of containers", (inits.len() + monitors.len()) as f64, "processes");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    put("mounts", mounts.lines().count() as f64, "mounts");
    put("cgroups", lab.cgroups().len() as f64, "cgroups");
    put("directories of containers", live_files(lab) as f64, "directories");
    put("files of liblxc's locks", count(Path::new("/run/lxc/lock")) as f64, "files");
    let links =
        lab.wire.sh(&["ip", "-o", "link"]).lines().count() + crate::net::sh(&["ip", "-o", "link"]).lines().count();
    put("interfaces", links as f64, "interfaces");
    for kind in ["supervisor", "keeper", "switch", "console"] {
        let pid = if kind == "supervisor" { Some(lab.pid() as i32) } else { process(lab, kind) };
        let Some(pid) = pid else { continue };
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count());
        put(&format!("descriptors of the {kind}"), fds as f64, "descriptors");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // Of the rings, whose size is fixed, more is resident until each has been full once.
        put(&format!("own memory of the {kind}"), kib(&status, "RssAnon:") as f64, "KiB");
    }
    Snapshot { figures }
}

/// Entries below `dir`.
fn count(dir: &Path) -> usize {
    let mut pending = BTreeSet::from([dir.to_owned()]);
    let mut found = 0;
    while let Some(dir) = pending.pop_first() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            found += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.insert(entry.path());
            }
        }
    }
    found
}
