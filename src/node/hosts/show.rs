//! What `show`, `hosts ls` and `status` print of hosts and their connections.

use std::net::IpAddr;

use serde_json::json;

use super::lease::State;
use super::{Hosts, flow};
use crate::wire::{Instant, word_of};

impl Hosts {
    pub(super) fn show_hosts(&self, now: Instant, limit: usize) -> Vec<serde_json::Value> {
        let mut hosts = std::collections::BTreeMap::<IpAddr, (u64, u64, Instant)>::new();
        for (pair, session) in self.sessions.iter() {
            let entry = hosts.entry(pair.host()).or_insert((0, 0, Instant::ZERO));
            *entry = (entry.0 + 1, entry.1 + u64::from(session.frames), entry.2.max(session.last));
        }
        for host in self.leases.hosts() {
            hosts.entry(host).or_insert((0, 0, now));
        }
        for (ip, claim) in self.claims.iter().flat_map(|claims| claims.all()) {
            hosts.entry(ip).or_insert((0, 0, claim.last));
        }
        for (ip, since) in self.dhcp.iter().flat_map(|dhcp| dhcp.kept_here()) {
            hosts.entry(ip).or_insert((0, 0, since));
        }
        let states = self.leases.states();
        let listed = hosts.into_iter().map(|(ip, (sessions, frames, last))| {
            let target = self.target(word_of(ip));
            let (state, granted) = states
                .get(&self.config.host_of(ip))
                .map_or((State::Emulated, &[][..]), |(state, granted)| (*state, granted));
            let template = target.map(|target| self.template(target.template));
            json!({
                "ip": ip.to_string(),
                "mac": target.map(|target| target.mac.to_string()),
                "template": template.map(|template| template.name.as_str()),
                "personality": template.map(|template| &*template.personality.get().name),
                "state": self.state_of(ip, state),
                "attackers": sessions,
                "granted": granted.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "frames": frames,
                "idle_s": (now - last).secs(),
            })
        });
        listed.chain(self.show_seekers(now)).take(limit).collect()
    }

    /// Hosts that lease their addresses, and have none.
    fn show_seekers(&self, now: Instant) -> impl Iterator<Item = serde_json::Value> {
        let seekers = self.dhcp.iter().flat_map(|dhcp| dhcp.seekers());
        seekers.map(move |(tenant, state)| {
            let template = self.template(tenant.template);
            json!({
                "ip": null,
                "mac": tenant.mac.to_string(),
                "template": template.name,
                "personality": &*template.personality.get().name,
                "state": state,
                "attackers": 0,
                "granted": [],
                "frames": 0,
                "idle_s": (now - tenant.since).secs(),
            })
        })
    }

    /// What a host is at present.
    fn state_of(&self, ip: IpAddr, state: State) -> &'static str {
        if self.dhcp.is_some() {
            return if self.target(word_of(ip)).is_some() { "leased" } else { "released" };
        }
        match &self.claims {
            Some(claims) if self.target(word_of(ip)).is_some() && !claims.has(word_of(ip)) => "released",
            Some(claims) if claims.has(word_of(ip)) && state == State::Emulated => "claimed",
            _ => state.as_str(),
        }
    }

    pub(super) fn show_flows(&self, now: Instant, limit: usize) -> Vec<serde_json::Value> {
        let open = self.flows.slab.iter().map(|(_, flow)| {
            let answered_by = match &flow.app {
                flow::App::Inline(_, service, _) => {
                    self.config.services.get(usize::from(service.0)).map_or("", |service| service.name.as_str())
                }
                flow::App::Pipe(_) => "relay",
                flow::App::Inner(_) if flow.is_spliced() => "container, spliced",
                flow::App::Inner(_) => "container",
            };
            json!({
                "remote": flow.wire.key.remote().to_string(), "local": flow.wire.key.local().to_string(),
                "state": if flow.closing.is_some() { "closing" } else { "open" }, "answered_by": answered_by,
                "session": flow.session.to_string(), "age_s": (now - flow.opened).secs(),
                "bytes_in": flow.bytes_in, "bytes_out": flow.wire.bytes_out,
            })
        });
        let half = self.half_open.iter().map(|(key, _)| {
            json!({"remote": key.remote().to_string(), "local": key.local().to_string(), "state": "half-open"})
        });
        open.chain(half).take(limit).collect()
    }
}
