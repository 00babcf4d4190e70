# What AppArmor keeps from the containers of a honeynet, where it is on.
# The keeper loads it; to take it away when no honeynet runs:  apparmor_parser --remove FILE
#
# An intruder reads the name in /proc/self/attr/current, so it says nothing of containers. What the profile refuses the
# kernel would refuse anyway, with the same errors: it is there for the day on which the kernel does not. Mounts are left
# to the missing CAP_SYS_ADMIN, since AppArmor's own refusal is another error than that of a root without it.
profile confined-session flags=(attach_disconnected,mediate_deleted) {
  network,
  file,
  mount,
  remount,
  umount,
  pivot_root,

  # Processes of its own only; those of the machine may end and watch them.
  signal (receive),
  signal (send) peer=@{profile_name},
  ptrace (readby, tracedby),
  ptrace (read, trace) peer=@{profile_name},
  unix (receive),
  unix peer=(label=@{profile_name}),

  capability,
  deny capability audit_control,
  deny capability audit_read,
  deny capability audit_write,
  deny capability block_suspend,
  deny capability bpf,
  deny capability checkpoint_restore,
  deny capability linux_immutable,
  deny capability mac_admin,
  deny capability mac_override,
  deny capability perfmon,
  deny capability sys_admin,
  deny capability sys_boot,
  deny capability sys_module,
  deny capability sys_pacct,
  deny capability sys_rawio,
  deny capability sys_time,
  deny capability syslog,
  deny capability wake_alarm,

  # The machine's kernel, its memory and its firmware.
  deny /proc/{kcore,kmem,mem,sysrq-trigger} rwklx,
  deny /proc/{acpi,scsi,bus}/** wklx,
  deny /proc/sys/{abi,crypto,debug,dev,fs,user,vm}/** wklx,
  deny /proc/sys/kernel/{core_pattern,core_pipe_limit,kexec_load_disabled,modprobe,modules_disabled,hotplug} wklx,
  deny /proc/sys/kernel/{panic*,perf_*,printk*,randomize_va_space,sysrq,unprivileged_*,usermodehelper/**,yama/**} wklx,
  deny /sys/{block,bus,dev,firmware,fs,hypervisor,kernel,module,power}/** wklx,
  deny /sys/kernel/{security,debug,tracing}/** rwklx,
}
