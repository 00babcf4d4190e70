//! Files of `/proc` that tell of the machine, as another one would have them.

use std::fmt::Write;

use super::{FIRST_SECTOR, Here, Machine, ROOT_DEVICE};

/// Name and content of each, for a root file system of `root_size` octets.
pub fn files(machine: &Machine, here: &Here, root_size: u64) -> Vec<(&'static str, String)> {
    let (disk, root) = (machine.disk / 1024, root_size / 1024);
    let rest = (machine.disk - (root_size + FIRST_SECTOR * 512).min(machine.disk)) / 1024;
    let mut files = vec![
        ("cmdline", format!("BOOT_IMAGE=/boot/vmlinuz-{} root=UUID={} ro quiet\n", here.release, machine.uuids[1])),
        ("version", version(here)),
        (
            "partitions",
            format!(
                "major minor  #blocks  name\n\n   8        0 {disk:>10} sda\n   8        1 {root:>10} sda1\n   8        2 {rest:>10} sda2\n"
            ),
        ),
        ("diskstats", diskstats(machine)),
        // Where a machine has no swap there is nothing but this line.
        ("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned()),
        (
            "mounts",
            format!(
                "sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0\n\
                 proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n\
                 udev /dev devtmpfs rw,nosuid,relatime,size={}k,nr_inodes={},mode=755,inode64 0 0\n\
                 devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=000 0 0\n\
                 {ROOT_DEVICE} / ext4 rw,relatime,errors=remount-ro 0 0\n",
                machine.memory.unwrap_or(here.memory) / 2048,
                machine.memory.unwrap_or(here.memory) / 8192,
            ),
        ),
        ("modules", modules(machine)),
        ("keys", String::new()),
        ("sys/kernel/random/boot_id", format!("{}\n", machine.boot_id)),
    ];
    if let Some(text) = cpuinfo(machine, here) {
        files.push(("cpuinfo", text));
    }
    if let Some(memory) = machine.memory {
        files.push(("meminfo", meminfo(memory, here.held)));
    }
    files
}

/// The kernel's own text, with a distribution's name in place of whoever built it. Release and version are what
/// they are: `uname` shows them, too, and that cannot be changed.
fn version(here: &Here) -> String {
    let of_distribution = ["debian", "ubuntu", "redhat", "fedora", "suse", "archlinux", "alpine"];
    let lower = here.version.to_lowercase();
    let rest = here.version.find(" #").map(|at| &here.version[at..]);
    match rest {
        Some(rest) if !of_distribution.iter().any(|name| lower.contains(name)) => format!(
            "Linux version {} (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld \
             (GNU Binutils for Debian) 2.40){rest}",
            here.release
        ),
        _ => here.version.clone(),
    }
}

/// None where processors are not described in these words.
fn cpuinfo(machine: &Machine, here: &Here) -> Option<String> {
    let flags = here.cpu("flags")?;
    let flags: Vec<&str> = flags.split(' ').filter(|flag| machine.is_virtual || *flag != "hypervisor").collect();
    let (cpu, own) = (&machine.cpu, |key: &str, otherwise: &'static str| here.cpu(key).unwrap_or(otherwise).to_owned());
    let mut text = String::new();
    for number in 0..machine.cpus {
        let mhz = f64::from(cpu.mhz);
        let _ = write!(
            text,
            "processor\t: {number}\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\n\
             stepping\t: {}\nmicrocode\t: {}\ncpu MHz\t\t: {mhz:.3}\ncache size\t: {} KB\nphysical id\t: 0\n\
             siblings\t: {}\ncore id\t\t: {number}\ncpu cores\t: {}\napicid\t\t: {number}\n\
             initial apicid\t: {number}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\n\
             flags\t\t: {}\nbugs\t\t: {}\nbogomips\t: {:.2}\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: {}\npower management:\n\n",
            cpu.maker,
            cpu.family,
            cpu.model,
            cpu.name,
            cpu.stepping,
            own("microcode", "0x5003604"),
            cpu.cache_kib,
            machine.cpus,
            machine.cpus,
            own("cpuid level", "22"),
            flags.join(" "),
            own("bugs", ""),
            mhz * 2.0,
            own("address sizes", "46 bits physical, 48 bits virtual"),
        );
    }
    Some(text)
}

/// A machine that has been idle for long. Only where the topology says how much memory there is: otherwise the
/// container shows the machine's own, whose figures move.
///
/// Some programs (busybox `free`) take the total and what is free from the kernel, whose figures cannot be changed, and
/// subtract the caches that are written here: these stay below what the machine holds in any case, or else the rest
/// would be below zero.
fn meminfo(memory: u64, held: u64) -> String {
    // What a kernel keeps for itself before it counts.
    let total = memory / 1024 * 975 / 1000;
    let part = |thousandths: u64| total * thousandths / 1000;
    let scale = (held / 1024 * 3 / 4).min(part(475));
    let cache = |thousandths: u64| scale * thousandths / 475;
    let (buffers, cached, reclaimable) = (cache(21), cache(418), cache(36));
    let of_files = (buffers + cached).saturating_sub(part(3));
    let (active, inactive) = (of_files * 48 / 100, of_files - of_files * 48 / 100);
    let rows = [
        ("MemTotal", total),
        ("MemFree", part(887) - buffers - cached - reclaimable),
        ("MemAvailable", part(861)),
        ("Buffers", buffers),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", active + part(2)),
        ("Inactive", inactive + part(71)),
        ("Active(anon)", part(2)),
        ("Inactive(anon)", part(71)),
        ("Active(file)", active),
        ("Inactive(file)", inactive),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 148),
        ("Writeback", 0),
        ("AnonPages", part(70)),
        ("Mapped", cached / 11),
        ("Shmem", part(3).min(cached / 2)),
        ("KReclaimable", reclaimable),
        ("Slab", reclaimable + part(13)),
        ("SReclaimable", reclaimable),
        ("SUnreclaim", part(13)),
        ("KernelStack", 4208),
        ("PageTables", 6544),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", total / 2),
        ("Committed_AS", part(128)),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 28_912),
        ("VmallocChunk", 0),
        ("Percpu", 2832),
        ("HardwareCorrupted", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
    ];
    let mut text = String::new();
    for (name, kib) in rows {
        let _ = writeln!(text, "{:<16}{kib:>8} kB", format!("{name}:"));
    }
    text + "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\n\
            Hugepagesize:       2048 kB\nHugetlb:               0 kB\n"
}

fn diskstats(machine: &Machine) -> String {
    let seed = machine.disk / 512 % 100_003 + machine.serial.bytes().map(u64::from).sum::<u64>();
    let row = |minor: u32, name: &str, part: u64| {
        let (reads, writes) = ((81_000 + seed) * part / 10, (412_000 + 3 * seed) * part / 10);
        format!(
            "   8       {minor} {name} {reads} {} {} {} {writes} {} {} {} 0 {} {} 0 0 0 0 0 0\n",
            reads / 3,
            reads * 52,
            reads / 2,
            writes / 2,
            writes * 23,
            writes * 3,
            writes * 2,
            writes * 4,
        )
    };
    row(0, "sda", 10) + &row(1, "sda1", 3) + &row(2, "sda2", 7)
}

/// What such a machine has loaded, as far as a kernel has modules at all.
fn modules(machine: &Machine) -> String {
    let of_machine: &[&str] = match machine.is_virtual {
        true => &["vmw_vsock_vmci_transport", "vmw_balloon", "vmwgfx", "vmxnet3", "vmw_pvscsi"],
        false => &["megaraid_sas", "ipmi_si", "ipmi_devintf", "mei_me", "tg3"],
    };
    let always =
        ["ext4", "crc16", "mbcache", "jbd2", "sd_mod", "scsi_mod", "libahci", "ahci", "libata", "evdev", "button"];
    let mut text = String::new();
    for (at, name) in of_machine.iter().chain(&always).enumerate() {
        let _ =
            writeln!(text, "{name} {} {} - Live 0x0000000000000000", 16_384 + 20_480 * (at as u64 * 7 % 11), at % 3);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::machine;
    use super::*;
    use crate::container::keeper::machine::tests::here;

    fn file(machine: &Machine, here: &Here, name: &str) -> Option<String> {
        files(machine, here, 1 << 30).into_iter().find(|(known, _)| *known == name).map(|(_, text)| text)
    }

    #[test]
    fn a_distributions_kernel_keeps_its_name() {
        assert_eq!(version(&here()), here().version);
        let own = Here {
            release: "6.18.1".into(),
            version: "Linux version 6.18.1 (me@here) (gcc 15, ld) #7 SMP @0\n".into(),
            ..here()
        };
        let text = version(&own);
        assert!(text.starts_with("Linux version 6.18.1 (debian-kernel@") && text.ends_with(" #7 SMP @0\n"), "{text}");
        assert!(!text.contains("me@here"));
        let odd = Here { version: "Linux version unlike others\n".into(), ..here() };
        assert_eq!(version(&odd), odd.version);
    }

    #[test]
    fn processors_are_the_machines_and_as_many() {
        let physical = Machine { is_virtual: false, cpus: 3, ..machine() };
        let text = file(&physical, &here(), "cpuinfo").unwrap();
        assert_eq!(text.matches("processor\t: ").count(), 3);
        assert!(text.contains("flags\t\t: fpu sse\n") && text.contains("bugs\t\t: spectre_v1\n"), "{text}");
        let virtual_one = Machine { is_virtual: true, ..machine() };
        assert!(file(&virtual_one, &here(), "cpuinfo").unwrap().contains("flags\t\t: fpu sse hypervisor\n"));
        // Where they are described otherwise, what the kernel says stays.
        assert_eq!(file(&physical, &Here { cpuinfo: "Features : fp\n".into(), ..here() }, "cpuinfo"), None);
    }

    #[test]
    fn memory_is_the_kernels_unless_it_is_written() {
        assert_eq!(file(&machine(), &here(), "meminfo"), None);
        let text = file(&Machine { memory: Some(16 << 30), ..machine() }, &here(), "meminfo").unwrap();
        assert!(text.starts_with("MemTotal:       16357785 kB\nMemFree:        12150061 kB\n"), "{text}");
    }

    #[test]
    fn caches_are_smaller_than_what_the_machine_holds() {
        for (memory, held) in
            [(16 << 30, 600 << 20), (16 << 30, 64 << 30), (64 << 20, 1 << 20), (1 << 40, 0), (0, 1 << 40)]
        {
            let text = meminfo(memory, held);
            let of = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                lines.next().unwrap().trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
            };
            let caches = of("Buffers") + of("Cached") + of("SReclaimable");
            assert!(caches << 10 <= held && caches + of("MemFree") <= of("MemTotal"), "{text}");
            assert!(of("MemAvailable") <= of("MemFree") + caches && of("Shmem") <= of("Cached"), "{text}");
            assert_eq!(of("Active"), of("Active(file)") + of("Active(anon)"), "{text}");
            assert!(of("Active(file)") + of("Inactive(file)") <= of("Cached") + of("Buffers"), "{text}");
        }
    }

    #[test]
    fn partitions_fill_the_disk() {
        let machine = Machine { disk: 480_000_000_000, ..machine() };
        let text = file(&machine, &here(), "partitions").unwrap();
        let blocks: Vec<u64> =
            text.lines().skip(2).map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap()).collect();
        assert_eq!(blocks[0], 468_750_000);
        assert_eq!(blocks[1] + blocks[2] + FIRST_SECTOR / 2, blocks[0]);
    }
}
