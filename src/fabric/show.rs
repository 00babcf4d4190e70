//! What `status` and `show` print of a fabric.

use serde_json::json;

use super::devices::Device;
use super::{Fabric, Slot, link};
use crate::event::Counters;
use crate::frame::PortNo;
use crate::node::{NodeIdx, Show};

/// A device in a list.
struct Row<'a> {
    name: &'a str,
    at: (NodeIdx, PortNo),
    state: &'static str,
    io: &'static str,
    counters: Counters,
}

impl Device {
    /// What passed it, and what was discarded at its edge.
    pub(super) fn counters(&self) -> Counters {
        let mut all = self.counters.clone();
        if let Some(edge) = self.netdev.discards() {
            all.drops.iter_mut().zip(&edge.drops).for_each(|(all, edge)| *all += edge);
        }
        all
    }
}

impl Fabric {
    /// What `show` and `hosts ls` print: one object a node.
    pub fn show(&self, what: Show, limit: usize) -> serde_json::Value {
        let rows = self.slots.iter().filter_map(|slot| {
            let rows = slot.node.show(what, self.now, limit)?;
            Some(json!({"node": slot.name, "rows": rows}))
        });
        rows.collect()
    }

    /// What there is of sessions and connections, one row a node that has such.
    pub fn show_standing(&self) -> serde_json::Value {
        let standing = self.slots.iter().filter_map(|slot| Some((&slot.name, slot.node.standing()?)));
        standing.map(|(node, now)| json!({"node": node, "sessions": now.sessions, "flows": now.flows})).collect()
    }

    /// Frames discarded, one row a node, link direction or device and reason.
    pub fn show_drops(&self) -> serde_json::Value {
        let nodes = self.slots.iter().map(|slot| (slot.name.clone(), slot.counters.clone()));
        let links = self.links.directions().iter().map(|d| (self.link_name(d), d.counters.clone()));
        let devices = self.rows().map(|row| (row.name.to_owned(), row.counters));
        nodes
            .chain(links)
            .chain(devices)
            .flat_map(|(name, counters)| {
                counters
                    .reasons()
                    .map(|(reason, count)| json!({"node": name, "reason": reason.as_str(), "count": count}))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn link_name(&self, direction: &link::Direction) -> String {
        format!("->{}", self.end_name(direction.to))
    }

    /// A port as a topology's links name it.
    fn end_name(&self, (node, port): (NodeIdx, PortNo)) -> String {
        let slot = &self.slots[usize::from(node.0)];
        match slot.node.port_name(port) {
            Some(port) => format!("{}:{port}", slot.name),
            None => slot.name.clone(),
        }
    }

    /// Links and devices with what passed them.
    pub fn show_links(&self) -> serde_json::Value {
        let links = self.links.directions().chunks(2).map(|pair| {
            let end = |d: &link::Direction| self.end_name(d.to);
            json!({
                "a": end(&pair[1]), "b": end(&pair[0]), "state": "up",
                "a_to_b": pair[0].counters.tx, "b_to_a": pair[1].counters.tx,
                "dropped": pair.iter().map(|d| d.counters.drops.iter().sum::<u64>()).sum::<u64>(),
            })
        });
        let devices = self.rows().map(|row| {
            json!({
                "a": self.end_name(row.at), "b": row.name, "state": row.state,
                "a_to_b": row.counters.tx, "b_to_a": row.counters.rx,
                "dropped": row.counters.drops.iter().sum::<u64>(),
            })
        });
        links.chain(devices).collect()
    }

    /// Devices, and by what means frames pass them.
    pub fn show_devices(&self) -> serde_json::Value {
        let devices = self.rows().map(|row| {
            json!({
                "device": row.name, "node": self.end_name(row.at), "state": row.state, "io": row.io,
                "rx": row.counters.rx, "tx": row.counters.tx,
                "dropped": row.counters.drops.iter().sum::<u64>(),
            })
        });
        devices.collect()
    }

    /// The devices, those last that are to come back.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let present = self.devices.iter().flatten().map(|device| Row {
            name: &device.name,
            at: device.at,
            state: if device.down { "down" } else { "up" },
            io: device.netdev.kind(),
            counters: device.counters(),
        });
        let absent = self.absent.iter().map(|absent| Row {
            name: &absent.name,
            at: absent.at,
            state: if absent.gone { "gone" } else { "down" },
            io: absent.io,
            counters: absent.counters.clone(),
        });
        present.chain(absent)
    }

    /// What passed each node.
    pub fn show_nodes(&self) -> serde_json::Value {
        let node = |slot: &Slot| {
            let dropped: u64 = slot.counters.drops.iter().sum();
            json!({"node": slot.name, "rx": slot.counters.rx, "tx": slot.counters.tx, "dropped": dropped})
        };
        self.slots.iter().map(node).collect()
    }
}
