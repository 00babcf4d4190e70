//! What of a `backend` depends on whose its containers are, and on when they are made.

use super::check::Checker;
use super::source::Span;
use crate::emulate::{Backend, Grant, StartPolicy};

/// Reports what a node of hosts cannot do.
pub fn judge(c: &mut Checker<'_>, title: &str, backend: Option<&Backend>, is_claimed: bool, span: Span) {
    let Some(backend) = backend else { return };
    if backend.grant == Grant::PerAttacker && backend.start == StartPolicy::WithSystem {
        let message = format!("containers of `{title}` would start with the system, each for one attacker");
        let help = "use `start: on-access`, with `predefined: true` so that only the start is waited for; or `grant: per-host`";
        c.error(span, message, "no attacker is there yet", help);
    }
    if backend.predefined && is_claimed {
        let message = format!("containers of `{title}` would be made for addresses that are yet to be claimed");
        let help = "remove `predefined`, or use a population without `claim`";
        c.error(span, message, "nobody knows which of them will be hosts", help);
    }
}

#[cfg(test)]
mod tests {
    use crate::emulate::{Backend, Grant};
    use crate::node::{HostsConfig, NodeConfig};
    use crate::topology::{parse, tests::good};

    fn hosts(text: &str) -> HostsConfig {
        let NodeConfig::Hosts(hosts) = good(text).nodes.remove(0).config else { panic!("no hosts") };
        hosts
    }

    fn backend(keys: &str) -> Backend {
        let text =
            format!("nodes: {{web: {{kind: host, address: 10.0.0.1, tcp: {{22: container}}, backend: {{{keys}}}}}}}");
        hosts(&text).templates[0].backend.clone().unwrap()
    }

    #[test]
    fn whose_containers_are_and_how_they_come_to_be() {
        let plain = backend("image: small");
        assert_eq!((plain.grant, plain.predefined), (Grant::PerHost, false));
        let each = backend("image: small, grant: per-attacker, predefined: true");
        assert_eq!((each.grant, each.predefined), (Grant::PerAttacker, true));
        assert_eq!(backend("clone: worked").image, "worked");
    }

    #[test]
    fn what_was_captured_needs_no_entry_in_images() {
        let node = "nodes: {web: {kind: host, address: 10.0.0.1, tcp: {22: container}, backend: {clone: worked}}}";
        let plan = good(node);
        let [image] = plan.images.as_slice() else { panic!("{:?}", plan.images) };
        assert_eq!((image.name.as_str(), image.recipe.as_str()), ("worked", "imported"));
        let plan = good(&format!("images: {{worked: {{recipe: imported, pool: 2}}}}\n{node}"));
        assert_eq!((plan.images.len(), plan.images[0].pool), (1, 2));
    }

    #[test]
    fn one_source_may_have_a_quarter() {
        let limits = |limits: &str| {
            let text = format!("nodes: {{web: {{kind: hosts, addresses: 10.0.0.0/24, limits: {{{limits}}}}}}}");
            let limits = hosts(&text).limits;
            (limits.containers, limits.containers_per_source)
        };
        assert_eq!(limits("sessions: 9"), (64, 16));
        assert_eq!(limits("containers: 400"), (400, 100));
        assert_eq!(limits("containers: 3"), (3, 3));
        assert_eq!(limits("containers_per_source: 2"), (64, 2));
    }

    #[test]
    fn nonsense_is_refused() {
        for (keys, message) in [
            (
                "kind: host, address: 10.0.0.1, backend: {image: small, grant: per-attacker, start: with-system}",
                "each for one attacker",
            ),
            ("kind: host, address: 10.0.0.1, backend: {image: small, grant: per-atacker}", "per-attacker"),
            ("kind: host, address: 10.0.0.1, backend: {image: small, clone: worked}", "one origin"),
            ("kind: host, address: 10.0.0.1, backend: {clone: small}", "is built, not captured"),
            ("kind: host, address: 10.0.0.1, backend: {clone: \"A b\"}", "cannot name an image"),
            (
                "kind: hosts, addresses: 10.0.0.0/24, claim: {}, backend: {image: small, predefined: true}",
                "yet to be claimed",
            ),
            ("kind: hosts, addresses: 10.0.0.0/24, limits: {containers: 4, containers_per_source: 5}", "out of range"),
        ] {
            let text = format!("nodes: {{web: {{{keys}, tcp: {{22: container}}}}}}");
            let mistakes = parse("t", &text).unwrap_err();
            assert!(format!("{mistakes:?}").contains(message), "{keys}: {mistakes:?}");
        }
    }
}
