//! Which tracepoints there are, and where they have what (`Documentation/trace/events.rst` of the kernel).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Where the fields of a tracepoint are, in octets.
#[derive(Debug, Default)]
pub struct Fields(HashMap<String, i16>);

impl Fields {
    /// Where `field` is.
    pub fn at(&self, field: &str) -> Option<i16> {
        self.0.get(field).copied()
    }

    /// Reads a tracepoint's `format`: lines such as `field:unsigned long clone_flags; offset:32; size:8; signed:0;`.
    fn parse(text: &str) -> Fields {
        let field = |line: &str| {
            let mut parts = line.trim().strip_prefix("field:")?.split(';');
            let declared = parts.next()?;
            let offset = parts.next()?.trim().strip_prefix("offset:")?.parse().ok()?;
            let name = declared.rsplit([' ', '\t']).next()?;
            Some((name.split('[').next().unwrap_or(name).to_owned(), offset))
        };
        Fields(text.lines().filter_map(field).collect())
    }
}

/// Tracefs, mounted where nobody sees it.
pub struct Tracefs(OwnedFd);

impl Tracefs {
    /// Mounts it for this process.
    ///
    /// # Errors
    /// `ENODEV` if the kernel has none; `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open() -> io::Result<Tracefs> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        Ok(Tracefs(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?))
    }

    fn read(&self, tracepoint: &str, file: &str) -> io::Result<String> {
        let path = format!("events/{tracepoint}/{file}");
        let mut text = String::new();
        let file = openat(&self.0, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| io::Error::new(error.kind(), format!("{path} of tracefs: {error}")))?;
        File::from(file).take(1 << 16).read_to_string(&mut text)?;
        Ok(text)
    }

    /// The number of `tracepoint` (`sched/sched_process_exec`), and its fields.
    ///
    /// # Errors
    /// `NotFound` if the kernel has no such tracepoint.
    pub fn tracepoint(&self, tracepoint: &str) -> io::Result<(u64, Fields)> {
        let id = self.read(tracepoint, "id")?;
        let id =
            id.trim().parse().map_err(|_| io::Error::other(format!("the tracepoint {tracepoint} has no number")))?;
        Ok((id, Fields::parse(&self.read(tracepoint, "format")?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_format_says() {
        let text = "name: task_newtask\nID: 211\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\t\
                    signed:0;\n\n\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:char comm[16];\toffset:12;\t\
                    size:16;\tsigned:0;\n\tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;\n\tfield:__data_loc \
                    char[] filename;\toffset:44;\tsize:4;\tsigned:0;\n\nprint fmt: \"pid=%d\", REC->pid\n";
        let fields = Fields::parse(text);
        let at = ["pid", "comm", "clone_flags", "filename", "fmt"].map(|field| fields.at(field));
        assert_eq!(at, [Some(8), Some(12), Some(32), Some(44), None]);
    }
}
