//! What `status` and `show` print of a fabric.

use serde_json::json;

use super::devices::Device;
use super::{Fabric, Slot, link};
use crate::event::Counters;
use crate::frame::PortNo;
use crate::node::{NodeIdx, Show};

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

    /// Frames discarded, one row a node, link direction or device and reason.
    pub fn show_drops(&self) -> serde_json::Value {
        let nodes = self.slots.iter().map(|slot| (slot.name.clone(), slot.counters.clone()));
        let links = self.links.directions().iter().map(|d| (self.link_name(d), d.counters.clone()));
        let devices = self.devices.iter().flatten().map(|d| (d.name.clone(), d.counters()));
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
        let devices = self.devices.iter().flatten().map(|device| {
            json!({
                "a": self.end_name(device.at), "b": device.name,
                "state": if device.down { "down" } else { "up" },
                "a_to_b": device.counters.tx, "b_to_a": device.counters.rx,
                "dropped": device.counters().drops.iter().sum::<u64>(),
            })
        });
        links.chain(devices).collect()
    }

    /// Devices, and by what means frames pass them.
    pub fn show_devices(&self) -> serde_json::Value {
        let devices = self.devices.iter().flatten().map(|device| {
            json!({
                "device": device.name, "node": self.end_name(device.at),
                "state": if device.down { "down" } else { "up" }, "io": device.netdev.kind(),
                "rx": device.counters.rx, "tx": device.counters.tx,
                "dropped": device.counters().drops.iter().sum::<u64>(),
            })
        });
        devices.collect()
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
