//! A `/sys` that tells of another machine: its maker, its disk, its processors.

use super::{FIRST_SECTOR, Machine, NET_DEVICE, Tree};

const DISK_DEVICE: &str = "devices/pci0000:00/0000:00:17.0/host0/target0:2:0/0:2:0:0";

/// Fills the tree, for a root file system of `root_size` octets.
pub fn files(sys: &mut Tree, machine: &Machine, root_size: u64) {
    let [board_vendor, board] = &machine.board;
    let [bios_vendor, bios, bios_date] = &machine.bios;
    let [chassis_vendor, chassis] = &machine.chassis;
    let dmi = "devices/virtual/dmi/id";
    for (name, value, mode) in [
        ("sys_vendor", &machine.vendor, 0o444),
        ("product_name", &machine.product, 0o444),
        ("product_version", &String::new(), 0o444),
        ("product_serial", &machine.serial, 0o400),
        ("product_uuid", &machine.uuids[0], 0o400),
        ("board_vendor", board_vendor, 0o444),
        ("board_name", board, 0o444),
        ("board_serial", &machine.serial, 0o400),
        ("bios_vendor", bios_vendor, 0o444),
        ("bios_version", bios, 0o444),
        ("bios_date", bios_date, 0o444),
        ("chassis_vendor", chassis_vendor, 0o444),
        ("chassis_type", chassis, 0o444),
        ("chassis_serial", &machine.serial, 0o400),
    ] {
        sys.file_of_mode(&format!("{dmi}/{name}"), format!("{value}\n"), mode);
    }
    sys.link("class/dmi/id", "../../devices/virtual/dmi/id");
    sys.dir(&format!("{NET_DEVICE}/net"));
    sys.dir("devices/virtual/net");
    sys.link("class/net/eth0", &format!("../../{NET_DEVICE}/net/eth0"));
    sys.link("class/net/lo", "../../devices/virtual/net/lo");
    let [vendor, model] = &machine.disk_model;
    sys.file(&format!("{DISK_DEVICE}/vendor"), format!("{vendor:<8}\n"));
    sys.file(&format!("{DISK_DEVICE}/model"), format!("{model:<16}\n"));
    sys.file(&format!("{DISK_DEVICE}/type"), "0\n".to_owned());
    let sectors = machine.disk / 512;
    let root = root_size / 512;
    let block = format!("{DISK_DEVICE}/block/sda");
    for (path, value) in [
        ("size", format!("{sectors}\n")),
        ("dev", "8:0\n".to_owned()),
        ("ro", "0\n".to_owned()),
        ("removable", "0\n".to_owned()),
        ("queue/rotational", "0\n".to_owned()),
        ("queue/logical_block_size", "512\n".to_owned()),
        ("queue/hw_sector_size", "512\n".to_owned()),
        ("sda1/partition", "1\n".to_owned()),
        ("sda1/dev", "8:1\n".to_owned()),
        ("sda1/start", format!("{FIRST_SECTOR}\n")),
        ("sda1/size", format!("{root}\n")),
        ("sda2/partition", "2\n".to_owned()),
        ("sda2/dev", "8:2\n".to_owned()),
        ("sda2/start", format!("{}\n", FIRST_SECTOR + root)),
        ("sda2/size", format!("{}\n", sectors - (FIRST_SECTOR + root).min(sectors))),
    ] {
        sys.file(&format!("{block}/{path}"), value);
    }
    sys.link(&format!("{block}/device"), "../../../0:2:0:0");
    sys.link("block/sda", &format!("../{block}"));
    sys.link("class/block/sda", &format!("../../{block}"));
    sys.link("class/block/sda1", &format!("../../{block}/sda1"));
    sys.link("class/block/sda2", &format!("../../{block}/sda2"));
    let all = match machine.cpus {
        1 => "0\n".to_owned(),
        count => format!("0-{}\n", count - 1),
    };
    for name in ["online", "possible", "present"] {
        sys.file(&format!("devices/system/cpu/{name}"), all.clone());
    }
    for number in 0..machine.cpus {
        for (name, value) in [("core_id", number), ("physical_package_id", 0)] {
            sys.file(&format!("devices/system/cpu/cpu{number}/topology/{name}"), format!("{value}\n"));
        }
    }
    sys.file("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n".to_owned());
    for dir in ["bus", "firmware", "fs/cgroup", "fs/ext4", "module", "power"] {
        sys.dir(dir);
    }
}
