//! Where sensors listen: a TAP that is given a copy of every frame that crosses certain ports, as a switch's mirror port is.
//!
//! What is copied where is the fabric's business, which puts the copies in by [`MirrorConfig::COPIES`]. A sensor only ever
//! listens: what comes from its side goes nowhere, so that whoever gets hold of it reaches nobody, and a stack that somebody
//! switched on there by mistake says nothing.

use super::{Cx, MirrorConfig, Node};
use crate::event::DropReason;
use crate::frame::Batch;

/// The node.
#[derive(Debug)]
pub struct Mirror;

impl Node for Mirror {
    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            if frame.meta.port == MirrorConfig::COPIES {
                cx.send(MirrorConfig::WIRE, frame);
            } else {
                cx.discard(frame, DropReason::Sensor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PortNo;
    use crate::node::testing::{Bench, eth};
    use crate::wire::Mac;

    #[test]
    fn a_sensor_is_told_and_never_heard() {
        let mut bench = Bench::new(Mirror, 2);
        let frame = eth(Mac([2; 6]), Mac([4; 6]), 0x0800, b"whatever");
        assert_eq!(bench.rx(0, &frame), [(PortNo(1), frame.clone())]);
        assert_eq!(bench.rx(1, &frame), []);
        assert_eq!(bench.counters.discarded(DropReason::Sensor), 1);
        assert_eq!(bench.pool.in_use(), 0);
    }
}
