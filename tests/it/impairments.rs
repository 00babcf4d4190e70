//! Links that are slow, lossy or unsteady, and VLANs, as clients meet them.

use etherparse::PacketBuilder;
use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::{AfPacket, Netdev};
use honeyweave::sys::packet;
use honeyweave::wire::Instant;

use crate::lab::Lab;
use crate::shell::shell;

fn lab(link: &str) -> Lab {
    let lab = Lab::up_alone(&format!(
        r#"
name: impairments
templates:
  shell:
    personality: linux
    tcp: {{22: container}}
    backend: {{image: tools, start: on-access}}
images:
  tools: {{recipe: small, packages: [nmap, iperf3, tcpdump], users: [{{name: root, password: toor}}]}}
nodes:
  wan: {{kind: uplink}}
  edge:
    kind: router
    interfaces: {{wan: [192.0.2.1/24], lan: [10.3.0.1/24]}}
  lan: {{kind: hosts, addresses: 10.3.0.10-10.3.0.13, template: shell}}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", lan]
    {link}
"#
    ));
    lab.attacker_at("192.0.2.2/24", "192.0.2.1");
    lab
}

/// Round trips in milliseconds.
fn round_trips(lab: &Lab, count: u32, interval: &str) -> Vec<f64> {
    let count = count.to_string();
    let output = lab.attacker.run(&["ping", "-c", &count, "-i", interval, "-W", "2", "10.3.0.10"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let times = said.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok());
    times.collect()
}

#[test]
fn a_link_of_ten_megabits_carries_ten_megabits_by_itself() {
    let lab = lab("rate: 10mbit");
    shell(&lab.attacker, "10.3.0.10", "iperf3 -s -1 -D");
    let report = lab.attacker.sh(&["iperf3", "-c", "10.3.0.10", "-t", "3", "-J"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
    println!("through 10 Mbit/s: {rate} Mbit/s");
    // Headers take a twentieth of it.
    assert!((8.0..=10.0).contains(&rate), "{rate} Mbit/s");
}

#[test]
fn a_lossy_link_loses_its_share_and_connections_survive_it_by_itself() {
    let lab = lab("loss: 5%");
    // The neighbor is found, however often that takes.
    crate::net::wait_for("an answer", || (!round_trips(&lab, 1, "1").is_empty()).then_some(()));
    let lost = 1000 - round_trips(&lab, 1000, "0.002").len();
    println!("lost {lost} of 1000 round trips over a link that loses 5 % each way");
    // 97.5 on average, with a standard deviation of 9.4.
    assert!((50..=145).contains(&lost), "{lost} of 1000");
    let sum =
        shell(&lab.attacker, "10.3.0.11", "head -c 300000 /dev/zero | sha256sum; head -c 300000 /dev/zero | wc -c");
    assert!(sum.ends_with("300000\n"), "{sum}");
}

#[test]
fn an_unsteady_link_varies_within_its_bounds_by_itself() {
    let lab = lab("delay: 10ms\n    jitter: 4ms");
    round_trips(&lab, 1, "1");
    let mut times = round_trips(&lab, 200, "0.005");
    assert_eq!(times.len(), 200, "none is lost");
    times.sort_by(f64::total_cmp);
    println!("10 ms and 4 ms of jitter, each way: {} to {} ms", times[0], times[199]);
    assert!(times[0] >= 12.0, "{times:?}");
    // A busy machine may add to some, not to nine of ten.
    assert!(times[180] <= 30.0, "{times:?}");
    assert!(times[180] - times[0] >= 4.0, "they vary: {times:?}");
}

#[test]
fn vlans_of_a_trunk_are_networks_of_their_own() {
    let lab = Lab::up(
        r#"
name: vlans
nodes:
  wan: {kind: uplink}
  core:
    kind: switch
    ports:
      trunk: {trunk: [10, 20]}
      office: {access: 10}
      lab: {access: 20}
  office: {kind: hosts, addresses: 192.0.2.100-192.0.2.109, personality: windows}
  lab: {kind: hosts, addresses: 192.0.2.100-192.0.2.109, personality: linux}
links:
  - endpoints: [wan, "core:trunk"]
  - endpoints: [office, "core:office"]
  - endpoints: [lab, "core:lab"]
"#,
    );
    // Not by the kernel's VLAN devices, which not every kernel has.
    let mut wire = lab.attacker.enter(|| AfPacket::new(packet::open("eth0", true).unwrap(), 1500));
    let (mut pool, mut heard) = (Pool::new(256), Vec::new());
    let mut talk = |frames: &[Vec<u8>], wanted: &mut dyn FnMut(&[u8]) -> bool| {
        let mut batch = Batch::default();
        batch.extend(frames.iter().map(|frame| pool.copy_of(frame).unwrap()));
        assert_eq!(wire.tx(&mut pool, &mut batch), frames.len());
        crate::net::wait_for("answers", || {
            wire.rx(Instant::ZERO, &mut pool, &mut batch).unwrap();
            let before = heard.len();
            for frame in batch.drain(..) {
                heard.push(frame.bytes().to_vec());
                pool.put(frame);
            }
            heard[before..].iter().any(|frame| wanted(frame)).then_some(())
        });
        std::mem::take(&mut heard)
    };
    // Where nobody may answer comes first; so any answer would, too.
    let asked = [None, Some(30), Some(10), Some(20)].map(arp_request);
    let (mut ten, mut twenty) = (None, None);
    let answers = talk(&asked, &mut |frame| {
        match (tag_of(frame), frame.get(16..18) == Some(&[8, 6])) {
            (Some(10), true) => ten = Some(frame[26..32].to_vec()),
            (Some(20), true) => twenty = Some(frame[26..32].to_vec()),
            _ => {}
        }
        ten.is_some() && twenty.is_some()
    });
    let replies: Vec<_> = answers.iter().filter(|frame| frame[..6] == ME).map(|frame| tag_of(frame)).collect();
    assert_eq!(replies.len(), 2, "only the trunk's VLANs answer: {replies:?}");
    let (ten, twenty) = (ten.unwrap(), twenty.unwrap());
    assert_ne!(ten, twenty, "the same address in two VLANs is two hosts");
    for (vlan, mac, ttl) in [(10, ten, 128), (20, twenty, 64)] {
        let mut echo = Vec::new();
        let ethernet = PacketBuilder::ethernet2(ME, mac.try_into().unwrap());
        let request = ethernet.single_vlan(vlan.try_into().unwrap()).ipv4([192, 0, 2, 2], HOST, 64);
        request.icmpv4_echo_request(1, 1).write(&mut echo, b"which one?").unwrap();
        let is_reply = |frame: &[u8]| tag_of(frame) == Some(vlan) && frame[..6] == ME && frame[38] == 0;
        let answers = talk(&[echo], &mut |frame| is_reply(frame));
        let reply = answers.iter().find(|frame| is_reply(frame)).unwrap();
        assert_eq!(reply[26], ttl, "the host of VLAN {vlan}");
    }
}

const ME: [u8; 6] = [2, 0x66, 0, 0, 0, 9];
const HOST: [u8; 4] = [192, 0, 2, 105];

fn tag_of(frame: &[u8]) -> Option<u16> {
    (frame[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([frame[14], frame[15]]) & 0xfff)
}

fn arp_request(vlan: Option<u16>) -> Vec<u8> {
    let tag = vlan.map(|vlan| [[0x81, 0], vlan.to_be_bytes()].concat()).unwrap_or_default();
    let who_has = [&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..], &ME, &[192, 0, 2, 2], &[0; 6], &HOST].concat();
    [&[0xff; 6][..], &ME, &tag, &who_has].concat()
}
