//! Where a user's machine is plugged in: what the TAP's other side sends goes
//! in as it is, and what comes for it goes out as it is.
//!
//! There is no guard here, for nothing real lies behind it. What is attached is
//! kept from the real network where containers are: at the uplink.

use super::{Cx, Node, TapConfig};
use crate::frame::Batch;

/// The node.
#[derive(Debug)]
pub struct Tap;

impl Node for Tap {
    fn passes_on(&self) -> bool {
        true
    }

    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            let to = if frame.meta.port == TapConfig::WIRE { TapConfig::INSIDE } else { TapConfig::WIRE };
            cx.send(to, frame);
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
    fn frames_pass_as_they_are() {
        let mut bench = Bench::new(Tap, 2);
        let frame = eth(Mac([2; 6]), Mac([4; 6]), 0x88cc, b"whatever");
        assert_eq!(bench.rx(0, &frame), [(PortNo(1), frame.clone())]);
        assert_eq!(bench.rx(1, &frame), [(PortNo(0), frame.clone())]);
    }
}
