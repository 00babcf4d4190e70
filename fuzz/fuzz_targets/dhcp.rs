//! What a DHCP server says: a lease that a host can use, or a reason why not; and a client that goes on whatever it is.
#![no_main]

use honeyweave::emulate::dhcp::{Act, Lease, Machine, Pace, Reply, State};
use honeyweave::wire::{Duration, Instant, Mac};
use libfuzzer_sys::fuzz_target;

const MAC: Mac = Mac([0, 12, 41, 1, 2, 3]);

fuzz_target!(|steps: Vec<(u16, Vec<u8>)>| {
    let pace = Pace { probes: 3, announcements: 2, gap: Duration::from_secs(1) };
    let mut now = Instant::from_secs(1000);
    let mut machine = Machine::new(MAC, pace, now);
    let mut xid = 0u32;
    for (wait, mut words) in steps {
        now += Duration::from_secs(u64::from(wait));
        let mut acts = 0;
        while machine.deadline() <= now {
            if let Some(Act::Say(message)) = machine.due(now, 0x0123_4567_89ab_cdef) {
                xid = message.xid;
            }
            acts += 1;
            assert!(acts < 64, "it spins in {:?}", machine.state());
        }
        // What random bytes never get right is put right.
        if words.len() > 240 && words[3] & 1 == 0 {
            words[..3].copy_from_slice(&[2, 1, 6]);
            words[4..8].copy_from_slice(&xid.to_be_bytes());
            words[28..34].copy_from_slice(&MAC.0);
            words[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        }
        if let Ok(reply) = Reply::parse(&words) {
            let _ = machine.hear(&reply, now, 7, |_| None);
        }
        let held = machine.lease().filter(|_| machine.state() == State::Bound);
        assert!(held.is_none_or(|lease| {
            (Lease::SHORTEST..=Lease::LONGEST).contains(&lease.secs) && lease.t1 < lease.t2 && lease.t2 < lease.secs
        }));
    }
});
