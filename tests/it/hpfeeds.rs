//! Events as hpfeeds has them: a broker passes them on, dies, and comes back.

use std::path::PathBuf;

use serde_json::Value;

use crate::lab::Lab;
use crate::net::{Running, free_port, wait_for};
use crate::python::packages;
use crate::sinks::{attack, certificates, topology};

const PACKAGES: [&str; 4] = ["hpfeeds==3.1.0", "wrapt", "prometheus-client", "aiohttp"];

const BROKER: &str = r#"
import asyncio, asyncio.sslproto, sys
from hpfeeds.broker.server import Server
from hpfeeds.broker.auth.memory import Authenticator

# It counts what it sends within TLS in a part of asyncio that is called otherwise since Python 3.11.
if not hasattr(asyncio.sslproto, "_SSLPipe"):
    asyncio.sslproto.SSLProtocol._sslpipe = property(lambda protocol: protocol)

class Listened(Server):
    """Believes nobody who publishes as long as nobody listens: what is published then is gone."""

    def get_authkey(self, ident):
        listens = any(self.subscriptions.values())
        return super().get_authkey(ident) if listens or ident == "reader" else None

async def main():
    name = lambda secret, pub, sub: {"owner": "x", "secret": secret, "pubchans": pub, "subchans": sub}
    names = {"sensor": name("s3cr3t", ["hw"], []), "within": name("t1s", ["hw"], []), "reader": name("r", [], ["hw"])}
    server = (Listened if sys.argv[5] == "listened" else Server)(Authenticator(names))
    server.add_endpoint_legacy("127.0.0.1:" + sys.argv[1])
    server.add_endpoint_legacy("127.0.0.1:" + sys.argv[2], tlscert=sys.argv[3], tlskey=sys.argv[4])
    await server.serve_forever()

asyncio.run(main())
"#;

const READER: &str = r#"
import asyncio, sys
from hpfeeds.asyncio import ClientSession

async def main():
    async with ClientSession("127.0.0.1", int(sys.argv[1]), "reader", "r") as client:
        client.subscribe("hw")
        print("subscribed", flush=True)
        async for ident, channel, payload in client:
            print(ident, channel, payload.decode(), flush=True)

asyncio.run(main())
"#;

/// A broker's ports, and what it and who listens to it are made of.
struct Feed {
    packages: PathBuf,
    port: String,
    /// Within TLS.
    within: String,
    ca: PathBuf,
}

impl Feed {
    fn new(lab: &Lab) -> Feed {
        certificates(lab, &["broker.example"]);
        lab.file("broker.py", BROKER);
        lab.file("reader.py", READER);
        Feed {
            packages: packages("hpfeeds/broker/server.py", &PACKAGES),
            port: free_port().to_string(),
            within: free_port().to_string(),
            ca: lab.path("pki/ca.pem"),
        }
    }

    fn python(&self, lab: &Lab, script: &str, how: &str) -> Running {
        let [script, certificate, key] = [script, "pki/broker.example.pem", "pki/broker.example.key"]
            .map(|name| lab.path(name).display().to_string());
        let script = ["/usr/bin/python3", &script, &self.port, &self.within, &certificate, &key, how];
        Running::start(lab.wire.command(&script).env("PYTHONPATH", &self.packages))
    }
}

#[test]
fn a_broker_of_hpfeeds_passes_on_what_was_published() {
    let mut lab = Lab::shared();
    let feed = Feed::new(&lab);
    let (port, within) = (&feed.port, &feed.within);
    let _broker = feed.python(&lab, "broker.py", "open");
    for port in [port, within] {
        let listens = format!("sport = :{port}");
        wait_for("the broker", || lab.wire.sh(&["ss", "-Hltn", &listens]).contains(port).then_some(()));
    }
    let mut subscriber = feed.python(&lab, "reader.py", "");
    subscriber.wait_line("subscribed");
    let (secret, wrong) = (lab.file("secret", "s3cr3t\n"), lab.file("wrong", "guess\n"));
    let to = format!("to: \"hpfeeds://127.0.0.1:{port}\", ident: sensor, channel: hw");
    let tls = format!(
        "to: \"hpfeeds+tls://127.0.0.1:{within}\", ident: within, channel: hw, secret: {}, ca: {}",
        lab.file("within", "t1s\n").display(),
        feed.ca.display()
    );
    let sinks = format!(
        "  feed: {{format: ndjson, {to}, secret: {}}}\n  stranger: {{format: ndjson, {to}, secret: {}}}\n  \
           within: {{format: ndjson, {tls}, server_name: broker.example}}\n  \
           astray: {{format: ndjson, {tls}, server_name: another.example}}\n",
        secret.display(),
        wrong.display()
    );
    lab.start(&topology(&sinks));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let newest = attack(&lab, 3);
    for sink in ["sensor", "within"] {
        let publication = |line: &String| {
            let payload = line.strip_prefix(sink)?.strip_prefix(" hw ")?;
            serde_json::from_str::<Value>(payload).ok()
        };
        let told = loop {
            let told: Vec<Value> = subscriber.said().iter().filter_map(publication).collect();
            if told.iter().any(|record| record["seq"] == newest) {
                break told;
            }
            subscriber.wait_line(&format!("{sink} hw "));
        };
        let told: Vec<(u64, &Value)> =
            told.iter().map(|record| (record["seq"].as_u64().unwrap(), &record["event"])).collect();
        let (numbers, events): (Vec<u64>, Vec<&Value>) = told.into_iter().filter(|(seq, _)| *seq <= newest).unzip();
        assert_eq!(numbers, (1..=newest).collect::<Vec<_>>(), "{sink}");
        assert_eq!(*events[newest as usize - 1], "service.request", "{sink}");
    }
    for (sink, why) in [("stranger", "the broker says"), ("astray", "certificate")] {
        let start = format!("sink {sink}: ");
        let refused = lab.wait_event("sink.state", |event| event["reason"].as_str().unwrap().starts_with(&start));
        assert!(refused["reason"].as_str().unwrap().contains(why), "{refused}");
    }
    // What is shared with the broker is nobody else's.
    let status = lab.json(&["status"]).to_string();
    assert!(!status.contains("s3cr3t") && !status.contains("t1s"), "{status}");
}

#[test]
fn a_broker_that_dies_and_returns_has_missed_nothing() {
    let mut lab = Lab::shared();
    let feed = Feed::new(&lab);
    let first = feed.python(&lab, "broker.py", "listened");
    // It comes back to whatever broker there is.
    let mut subscriber = feed.python(&lab, "reader.py", "");
    subscriber.wait_line("subscribed");
    let secret = lab.file("secret", "s3cr3t\n");
    let to = format!("to: \"hpfeeds://127.0.0.1:{}\", ident: sensor, channel: hw", feed.port);
    lab.start(&topology(&format!("  feed: {{format: ndjson, {to}, secret: {}}}\n", secret.display())));
    lab.attacker.addr("eth0", "192.0.2.2/24");
    let mut told: Vec<u64> = Vec::new();
    let mut until = |subscriber: &mut Running, newest: u64| {
        let sent = |line: &String| {
            let record: Value = serde_json::from_str(line.strip_prefix("sensor hw ")?).ok()?;
            record["seq"].as_u64()
        };
        loop {
            told = subscriber.said().iter().filter_map(sent).collect();
            if told.contains(&newest) {
                return told.clone();
            }
            subscriber.wait_line("sensor hw ");
        }
    };
    let newest = attack(&lab, 3);
    until(&mut subscriber, newest);
    let before = lab.events().len();
    first.signal(libc::SIGKILL);
    drop(first);
    let newest = attack(&lab, 20);
    let is_of_feed = |event: &Value, end: &str| {
        let reason = event["reason"].as_str().unwrap_or_default();
        reason.starts_with("sink feed: ") && reason.ends_with(end)
    };
    lab.wait_event("sink.state", |event| is_of_feed(event, ""));
    let _second = feed.python(&lab, "broker.py", "listened");
    let told = until(&mut subscriber, newest);
    lab.wait_event("sink.state", |event| is_of_feed(event, "takes records again"));
    // All of them, in order, but for what was published in the second before the first broker died.
    let mut seen = Vec::new();
    for seq in told.iter().copied().filter(|seq| *seq <= newest) {
        if !seen.contains(&seq) {
            assert_eq!(seq, seen.len() as u64 + 1, "{told:?}");
            seen.push(seq);
        }
    }
    assert_eq!(seen.len() as u64, newest);
    let twice = told.len() - told.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(twice <= before, "{twice} came twice");
    wait_for("nothing to be behind", || (lab.json(&["status"])["sinks"][0]["state"] == "up").then_some(()));
}
