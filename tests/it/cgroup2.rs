//! Containers on a machine that has version 2 of cgroups only.

use crate::lab::Lab;
use crate::net::wait_for;
use crate::orders::TOPOLOGY;
use crate::shell::shell;

#[test]
fn containers_live_freeze_and_end_in_one_hierarchy() {
    let mut lab = Lab::shared();
    lab.only_cgroup2 = true;
    lab.start(TOPOLOGY);
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "echo mine >/root/tool; id -u"), "0\n");
    let groups = lab.cgroups();
    let unified = |group: &std::path::PathBuf| group.starts_with("/sys/fs/cgroup/unified");
    assert!(!groups.is_empty() && groups.iter().all(unified), "{groups:?}");
    let is = |state: &str| {
        let rows = lab.json(&["container", "ls"]);
        let mut rows = rows.as_array().unwrap().iter();
        rows.any(|row| row["host"] == "192.0.2.20" && row["state"] == state).then_some(())
    };
    wait_for("that it is frozen", || is("frozen"));
    lab.wait_event("container.frozen", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "cat /root/tool"), "mine\n");
    lab.wait_event("container.thawed", |event| event["dst"]["ip"] == "192.0.2.20");
    // What forks all the time ends with it, frozen or not.
    shell(&lab.attacker, "192.0.2.20", "(while :; do (:) & wait; done) >/dev/null 2>&1 & echo");
    assert!(lab.command(&["container", "destroy", "192.0.2.20"]).status.success());
    lab.wait_event("container.destroyed", |event| event["dst"]["ip"] == "192.0.2.20");
    assert_eq!(shell(&lab.attacker, "192.0.2.20", "ls /root"), "", "another one, of the same hierarchy");
    wait_for("that it is frozen", || is("frozen"));
    assert!(lab.down().as_secs() < 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
