//! Cgroups in both layouts, version 1 (a hierarchy for each controller) and
//! version 2: limits for liblxc, and finding what a container left behind.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use crate::sys::privileges;

/// The hierarchies of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The directories below which liblxc makes the cgroups of containers: in each
    /// hierarchy its root or the cgroup of whoever starts them, as controllers allow.
    parents: Vec<PathBuf>,
    /// Controllers of version 1, with which limits go to `lxc.cgroup.*`.
    v1: Vec<String>,
    /// Controllers of version 2, with which limits go to `lxc.cgroup2.*`.
    v2: Vec<String>,
}

impl Layout {
    /// What the kernel says.
    pub fn detect() -> Layout {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let controllers = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Layout::parse(&mounts, &own, controllers)
    }

    /// What the kernel says. Where no cgroups are mounted (`ip netns exec` hides
    /// them) the calling process, which has one thread, gets mounts of its own.
    pub fn find() -> Layout {
        let here = Layout::detect();
        if here.is_present() {
            return here;
        }
        let hierarchies = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if let Err(error) = mount_all(&hierarchies) {
            tracing::warn!(%error, "no cgroups are mounted, so containers run without limits");
        }
        Layout::detect()
    }

    /// No cgroups at all.
    #[cfg(test)]
    pub fn none() -> Layout {
        Layout { parents: vec![], v1: vec![], v2: vec![] }
    }

    /// `table` is `/proc/self/mounts`, `own` is `/proc/self/cgroup`.
    fn parse(table: &str, own: &str, controllers: impl Fn(&Path) -> String) -> Layout {
        let (mut parents, mut v1, mut v2) = (Vec::new(), Vec::new(), Vec::new());
        let own: Vec<(&str, &str)> = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
        for line in table.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let &[_, path, kind, options, ..] = fields.as_slice() else { continue };
            let path = PathBuf::from(path);
            match kind {
                "cgroup" => v1.extend(options.split(',').map(str::to_owned)),
                "cgroup2" => v2.extend(controllers(&path).split_whitespace().map(str::to_owned)),
                _ => continue,
            }
            // Version 2 has a line without a name; a hierarchy of version 1 is mounted with its name among the options.
            let same = |name: &str| if kind == "cgroup2" { name.is_empty() } else { options.ends_with(name) };
            let within = own.iter().filter(|(name, _)| same(name) && (kind == "cgroup2" || !name.is_empty()));
            let within = within.map(|(_, at)| path.join(at.trim_start_matches('/')));
            for parent in within.chain([path.clone()]) {
                if !parents.contains(&parent) {
                    parents.push(parent);
                }
            }
        }
        Layout { parents, v1, v2 }
    }

    /// The same hierarchies with all their directories: a predecessor may have been
    /// started from another cgroup (another log-in, another service).
    pub fn everywhere(&self) -> Layout {
        let mut parents = Vec::new();
        for parent in &self.parents {
            walk(parent, &mut |dir| parents.push(dir.to_owned()));
        }
        Layout { parents, ..self.clone() }
    }

    /// Whether there is any hierarchy.
    pub fn is_present(&self) -> bool {
        !self.parents.is_empty()
    }

    /// The version that limits are set in, and the limits that can be set: `memory`, `pids`, `cpu`.
    pub fn describe(&self) -> (u8, Vec<&'static str>) {
        let version = if self.v2.iter().any(|c| c == "memory") { 2 } else { 1 };
        let has = |name: &&'static str| self.v1.iter().chain(&self.v2).any(|c| c == *name);
        (version, ["memory", "pids", "cpu"].into_iter().filter(has).collect())
    }

    /// Limits in liblxc's words, as far as the machine has controllers for them.
    pub fn limits(&self, memory: u64, processes: u32, cpu_quota_us: u32) -> Vec<(String, String)> {
        let mut limits = Vec::new();
        let mut add = |key: &str, value: String| limits.push((key.to_owned(), value));
        let (v1, v2) = (|name: &str| self.v1.iter().any(|c| c == name), |name: &str| self.v2.iter().any(|c| c == name));
        if v2("memory") {
            add("lxc.cgroup2.memory.max", memory.to_string());
        } else if v1("memory") {
            add("lxc.cgroup.memory.limit_in_bytes", memory.to_string());
        }
        if v2("pids") {
            add("lxc.cgroup2.pids.max", processes.to_string());
        } else if v1("pids") {
            add("lxc.cgroup.pids.max", processes.to_string());
        }
        if v2("cpu") {
            add("lxc.cgroup2.cpu.max", format!("{cpu_quota_us} 100000"));
        } else if v1("cpu") {
            add("lxc.cgroup.cpu.cfs_quota_us", cpu_quota_us.to_string());
        }
        limits
    }

    /// Only these devices, in liblxc's words. In version 2 it is a program that the kernel runs, and no controller.
    pub fn devices(&self, allowed: &[&str]) -> Vec<(String, String)> {
        let prefix = match (self.v1.iter().any(|c| c == "devices"), self.is_present() && self.v1.is_empty()) {
            (true, _) => "lxc.cgroup.devices",
            (false, true) => "lxc.cgroup2.devices",
            (false, false) => return Vec::new(),
        };
        let deny = (format!("{prefix}.deny"), "a".to_owned());
        std::iter::once(deny)
            .chain(allowed.iter().map(|device| (format!("{prefix}.allow"), (*device).to_owned())))
            .collect()
    }

    /// The cgroups of container `name`. liblxc appends a number if one of another container's has the name, which no
    /// number of ours is used twice for.
    fn of(&self, name: &str) -> Vec<PathBuf> {
        let kinds = ["lxc.payload.", "lxc.monitor."].map(|kind| format!("{kind}{name}"));
        let paths = self.parents.iter().flat_map(|parent| kinds.iter().map(|kind| parent.join(kind)));
        paths.filter(|path| path.is_dir()).collect()
    }

    /// Whether container `name` has any cgroup where we put them.
    pub fn has(&self, name: &str) -> bool {
        !self.of(name).is_empty()
    }

    /// The cgroups of containers whose name is wanted.
    fn all(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for parent in &self.parents {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let container = name.strip_prefix("lxc.payload.").or_else(|| name.strip_prefix("lxc.monitor."));
                if container.is_some_and(&wanted) {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Sends `SIGKILL` to everything in the cgroups of container `name`, and thaws what is frozen. Returns how many
    /// processes there were.
    pub fn kill(&self, name: &str) -> usize {
        self.of(name).iter().map(|cgroup| kill(cgroup)).sum()
    }

    /// The same for all containers that are `wanted`.
    pub fn kill_all(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.all(wanted).iter().map(|cgroup| kill(cgroup)).sum()
    }

    /// Removes the empty cgroups of container `name`. Returns how many are left.
    pub fn remove(&self, name: &str) -> usize {
        remove(&self.of(name))
    }

    /// The same for all containers that are `wanted`.
    pub fn remove_all(&self, wanted: impl Fn(&str) -> bool) -> usize {
        remove(&self.all(wanted))
    }

    /// The file `file` of container `name`, of the first hierarchy that has it.
    fn file(&self, name: &str, file: &str) -> Option<PathBuf> {
        let payload = format!("lxc.payload.{name}");
        self.parents.iter().map(|parent| parent.join(&payload).join(file)).find(|path| path.exists())
    }

    /// The number by which the kernel knows the cgroup of container `name` in version 2: the one that all have, whichever
    /// version limits are set in.
    pub fn number(&self, name: &str) -> Option<u64> {
        let file = self.file(name, "cgroup.controllers")?;
        Some(fs::metadata(file.parent()?).ok()?.ino())
    }

    /// Sets limits, in liblxc's words, of container `name` while it runs.
    ///
    /// # Errors
    /// If the kernel refuses one.
    pub fn set(&self, name: &str, limits: &[(String, String)]) -> io::Result<()> {
        for (key, value) in limits {
            let file = key.strip_prefix("lxc.cgroup2.").or_else(|| key.strip_prefix("lxc.cgroup."));
            if let Some(path) = file.and_then(|file| self.file(name, file)) {
                fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Freezes the processes of container `name`, or has them go on.
    ///
    /// # Errors
    /// If the machine has no freezer, or the container is gone.
    pub fn freeze(&self, name: &str, frozen: bool) -> io::Result<()> {
        let (path, value) = self.freezer(name, frozen)?;
        fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
    }

    /// What is written, and where, for container `name` to be frozen or not.
    ///
    /// # Errors
    /// If it does not run, or there is no such thing here.
    pub fn freezer(&self, name: &str, frozen: bool) -> io::Result<(PathBuf, &'static str)> {
        let (v1, v2) = if frozen { ("FROZEN", "1") } else { ("THAWED", "0") };
        let files = [("freezer.state", v1), ("cgroup.freeze", v2)];
        let found = files.into_iter().find_map(|(file, value)| Some((self.file(name, file)?, value)));
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no cgroup that could be frozen"))
    }

    /// Whether the processes of container `name` are frozen, all of them.
    pub fn is_frozen(&self, name: &str) -> bool {
        let says = |file: &str, word: &str| {
            let text = self.file(name, file).and_then(|path| fs::read_to_string(path).ok());
            text.is_some_and(|text| text.lines().any(|line| line == word))
        };
        says("freezer.state", "FROZEN") || says("cgroup.events", "frozen 1")
    }

    /// Microseconds of a processor that container `name` has used, if the machine counts them.
    pub fn processor_use(&self, name: &str) -> Option<u64> {
        if let Some(path) = self.file(name, "cpuacct.usage") {
            return Some(fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()? / 1000);
        }
        let text = fs::read_to_string(self.file(name, "cpu.stat")?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
    }

    /// The processes of container `name`, by their numbers outside.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let text = self.file(name, "cgroup.procs").and_then(|path| fs::read_to_string(path).ok());
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes the cgroup that liblxc's monitors pass through as they end, unless another container of the machine's needs it.
    pub fn remove_pivot(&self) {
        for parent in &self.parents {
            let _ = fs::remove_dir(parent.join("lxc.pivot"));
        }
    }
}

/// Kills everything in a cgroup and below it.
fn kill(cgroup: &Path) -> usize {
    let processes = |dir: &Path| {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect::<Vec<_>>()
    };
    let mut killed = 0;
    // Version 2 (since Linux 5.14) does it at once, so that nothing that forks all the time escapes.
    let file = fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.kill"));
    if let Ok(mut file) = file {
        walk(cgroup, &mut |dir| killed += processes(dir).len());
        if file.write_all(b"1").is_ok() {
            return killed;
        }
        killed = 0;
    }
    walk(cgroup, &mut |dir| {
        for pid in processes(dir) {
            killed += 1;
            // It may have ended since.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        // What is frozen dies only when it goes on, in version 1. Elsewhere there is no such file.
        let state = fs::OpenOptions::new().write(true).open(dir.join("freezer.state"));
        let _ = state.and_then(|mut state| state.write_all(b"THAWED"));
    });
    killed
}

fn remove(cgroups: &[PathBuf]) -> usize {
    for cgroup in cgroups {
        walk(cgroup, &mut |dir| drop(fs::remove_dir(dir)));
    }
    cgroups.iter().filter(|cgroup| cgroup.exists()).count()
}

/// Mounts the hierarchies of `/proc/self/cgroup` where nobody else sees it.
fn mount_all(hierarchies: &str) -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

    privileges::own_mounts()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let root = Path::new("/sys/fs/cgroup");
    let names: Vec<&str> = hierarchies.lines().filter_map(|line| line.split(':').nth(1)).collect();
    if names.iter().all(|name| name.is_empty()) {
        return Ok(mount("none", root, "cgroup2", flags, None)?);
    }
    mount("none", root, "tmpfs", flags, None)?;
    for name in names {
        // Version 2 beside version 1 has no controllers to speak of, but liblxc wants it.
        let (dir, kind) =
            if name.is_empty() { ("unified", "cgroup2") } else { (name.trim_start_matches("name="), "cgroup") };
        let dir = root.join(dir);
        fs::create_dir(&dir)?;
        let options = CString::new(name)?;
        mount("none", &dir, kind, flags, (!name.is_empty()).then_some(options.as_c_str()))?;
    }
    Ok(())
}

/// Calls `visit` for every directory below `dir` and then for itself.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(dir);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn limits_follow_the_layout() {
        let v1 = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                  cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let own = "3:cpu,cpuacct:/\n2:memory:/user/me\n1:pids:/\n0::/scope\n";
        let layout = Layout::parse(v1, own, |_| String::new());
        let keys = |layout: &Layout| layout.limits(1, 2, 3).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(
            keys(&layout),
            ["lxc.cgroup.memory.limit_in_bytes", "lxc.cgroup.pids.max", "lxc.cgroup.cpu.cfs_quota_us"]
        );
        assert_eq!(layout.describe(), (1, vec!["memory", "pids", "cpu"]));
        // With neither the root nor the cgroup of one's own is it certain where liblxc puts a container.
        let parents: Vec<_> = layout.parents.iter().map(|p| p.strip_prefix("/sys/fs/cgroup").unwrap()).collect();
        let all = ["memory/user/me", "memory", "pids", "cpu", "unified/scope", "unified"];
        assert_eq!(parents, all.map(Path::new));
        let v2 = Layout::parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n", "0::/\n", |_| {
            "cpuset cpu memory pids\n".into()
        });
        assert_eq!(keys(&v2), ["lxc.cgroup2.memory.max", "lxc.cgroup2.pids.max", "lxc.cgroup2.cpu.max"]);
        assert_eq!(layout.devices(&["c 1:3 rwm"]).len(), 0);
        assert_eq!(v2.devices(&["c 1:3 rwm"])[1], ("lxc.cgroup2.devices.allow".to_owned(), "c 1:3 rwm".to_owned()));
        assert!(Layout::none().devices(&["a"]).is_empty());
        assert_eq!(v2.describe(), (2, vec!["memory", "pids", "cpu"]));
        assert!(keys(&Layout::none()).is_empty() && !Layout::none().is_present());
    }

    /// The kernel's version 2, which the machine has beside version 1, too. What it does without controllers is all of this.
    #[test]
    fn version_2_freezes_counts_and_kills_what_forks_all_the_time() {
        use std::process::{Command, Stdio};

        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, unmount};

        let until = |what: &str, is: &dyn Fn() -> bool| {
            let deadline = clock::monotonic_micros() + 20_000_000;
            while !is() {
                assert!(clock::monotonic_micros() < deadline, "{what}");
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        };
        // A mount that no other thread sees.
        privileges::own_mounts().unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount("none", dir.path(), "cgroup2", MountFlags::NOSUID, None).unwrap();
        let table = format!("cgroup2 {} cgroup2 rw 0 0\n", dir.path().display());
        let controllers = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
        let layout = Layout::parse(&table, "0::/\n", controllers);
        let name = format!("hw-test-{}", std::process::id());
        let payload = dir.path().join(format!("lxc.payload.{name}"));
        fs::create_dir_all(payload.join("inner")).unwrap();
        fs::create_dir(dir.path().join(format!("lxc.monitor.{name}"))).unwrap();
        let start = |cgroup: &Path, does: &str| {
            // It enters by itself: whatever it begins is within.
            let line = format!("echo $$ >{}/cgroup.procs && {does}", cgroup.display());
            Command::new("sh").args(["-c", &line]).stdout(Stdio::null()).spawn().unwrap()
        };
        let children =
            [start(&payload, "while :; do (:) & wait; done"), start(&payload.join("inner"), "exec sleep 1000")];
        until("both are within", &|| {
            !layout.processes(&name).is_empty()
                && fs::read_to_string(payload.join("inner/cgroup.procs")).is_ok_and(|text| !text.is_empty())
        });
        until("it uses a processor", &|| layout.processor_use(&name).is_some_and(|used| used > 1000));
        assert!(!layout.is_frozen(&name));
        layout.freeze(&name, true).unwrap();
        until("it is frozen", &|| layout.is_frozen(&name));
        // The last microseconds of what ran may be counted late.
        let used = std::cell::Cell::new(None);
        until("nothing runs", &|| {
            used.set(layout.processor_use(&name));
            std::thread::sleep(std::time::Duration::from_millis(20));
            layout.processor_use(&name) == used.get()
        });
        let used = used.get();
        layout.freeze(&name, false).unwrap();
        until("it goes on", &|| !layout.is_frozen(&name) && layout.processor_use(&name) > used);
        // Frozen again: it dies all the same.
        layout.freeze(&name, true).unwrap();
        until("it is frozen again", &|| layout.is_frozen(&name));
        assert!(layout.remove(&name) > 0, "what is in use stays");
        assert!(layout.kill(&name) >= 2);
        for mut child in children {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        }
        until("all of them are gone", &|| layout.processes(&name).is_empty());
        until("its cgroups can be removed", &|| layout.remove(&name) == 0);
        assert_eq!((layout.kill(&name), layout.is_frozen(&name)), (0, false));
        unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }

    #[test]
    fn removes_the_cgroups_of_the_containers_meant() {
        let root = tempfile::tempdir().unwrap();
        let made = [
            "lxc.payload.hw-a-1/sub",
            "lxc.monitor.hw-a-1",
            "lxc.payload.hw-b-1",
            "lxc.pivot",
            "other/lxc.monitor.hw-a-2",
        ];
        for dir in made {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let layout = Layout { parents: vec![root.path().to_owned()], v1: vec![], v2: vec![] };
        assert_eq!(layout.remove_all(|name| name.starts_with("hw-a-")), 0);
        assert!(root.path().join("other/lxc.monitor.hw-a-2").exists());
        assert_eq!(layout.everywhere().remove_all(|name| name.starts_with("hw-a-")), 0);
        assert!(!root.path().join("other/lxc.monitor.hw-a-2").exists());
        fs::create_dir_all(root.path().join("lxc.payload.hw-c-1")).unwrap();
        fs::write(root.path().join("lxc.payload.hw-c-1/cgroup.freeze"), "").unwrap();
        assert_eq!((layout.remove("hw-c-2"), layout.remove("hw-c")), (0, 0));
        layout.freeze("hw-c-1", true).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("lxc.payload.hw-c-1/cgroup.freeze")).unwrap(), "1");
        assert!(layout.freeze("hw-c-2", true).is_err());
        fs::remove_file(root.path().join("lxc.payload.hw-c-1/cgroup.freeze")).unwrap();
        assert_eq!(layout.remove("hw-c-1"), 0);
        layout.remove_pivot();
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lxc.payload.hw-b-1", "other"]);
    }
}
