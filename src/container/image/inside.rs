//! Running commands inside a root that is being built: as the user ids that the
//! container will have, without a network, with nothing of the machine's but an
//! empty `/dev`. What packages and tasks do there is done by nobody in particular.

use std::path::Path;
use std::process::Command;

use super::packages::run;
use super::{ImageError, Progress};
use crate::container::{ID_BASE, ID_COUNT};

/// Run by root in namespaces of its own: `$1` is the root, `$2` the ids, the rest what is run inside. All mounts
/// vanish with the namespaces, and so does every process that a command leaves behind. liblxc asks newuidmap for the
/// map if it finds it, which then wants an entry in /etc/subuid; root needs neither, hence the path without programs.
const SCRIPT: &str = r#"set -e
mount --rbind "$1" /mnt
ids=$2
usernsexec=$(command -v lxc-usernsexec)
chroot=$(command -v chroot)
shift 2
mount -t proc proc /proc
[ ! -d /mnt/proc ] || mount -t proc proc /mnt/proc
mkdir -p /mnt/dev
mount -t tmpfs -o mode=0755 dev /mnt/dev
for node in null zero full random urandom tty; do
    : >"/mnt/dev/$node"
    mount --bind "/dev/$node" "/mnt/dev/$node"
done
mkdir -m 1777 /mnt/dev/shm
ln -s /proc/self/fd /mnt/dev/fd
cd /
exec env PATH=/nonexistent "$usernsexec" -m "u:0:$ids" -m "g:0:$ids" -- "$chroot" /mnt "$@"
"#;

/// Where programs are inside.
const PATH: &str = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Has `shell` run `script` with `environment` inside `rootfs`, whose files belong to the ids of containers; `what`
/// says what for.
pub fn run_inside(
    rootfs: &Path,
    shell: &[&str],
    script: &str,
    environment: &[(&str, &str)],
    what: &str,
    progress: &Progress,
) -> Result<(), ImageError> {
    if !in_path("lxc-usernsexec") {
        return Err(ImageError::NoProgram("lxc-usernsexec".into()));
    }
    let mut call = Command::new("unshare");
    call.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--propagation", "private"]);
    call.args(["sh", "-c", SCRIPT, "sh"]).arg(rootfs).arg(format!("{ID_BASE}:{ID_COUNT}"));
    call.args(shell).arg("-c").arg(format!("{PATH}\n{script}"));
    call.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    call.envs(environment.iter().copied());
    run(call, what, progress)
}

fn in_path(program: &str) -> bool {
    let found = |dir: &str| Path::new(dir).join(program).is_file();
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].into_iter().any(found)
}
