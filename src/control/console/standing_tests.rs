//! A console that follows another one: what there is does not begin with it.

use serde_json::{Value, json};

use super::tests::{Harness, plan, until};
use crate::container::{Answered, ContainerRow, KeeperSays, Order, Ordered, Wanted};
use crate::control::Query;
use crate::control::request::Status;
use crate::event::{Event, EventId, Said, SessionId, Sink};
use crate::record::Utc;
use crate::sys::clock;
use crate::wire::Instant;

fn row(number: u32, state: &str, host: Option<&str>) -> ContainerRow {
    ContainerRow {
        number,
        state: state.into(),
        node: host.map(|_| "core".into()),
        host: host.map(|ip| ip.parse().unwrap()),
        attacker: None,
        image: "small".into(),
        name: format!("hw-abcdef-{number}"),
        since: host.map(|_| Utc::from_micros(7_000_000)),
        by: host.map(|_| [192, 0, 2, 9].into()),
        init: None,
        upper: "/u".into(),
        lower: "/l".into(),
    }
}

/// What the console says while the switch and the keeper know of that.
fn asked(harness: &Harness, request: &str) -> Value {
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| harness.ask(request));
        let standing = json!([{"node": "core", "sessions": 3, "flows": 2}, {"node": "wan", "sessions": 1, "flows": 0}]);
        harness.answer(Query::Status, &json!({"nodes": [], "devices": [], "standing": standing}));
        loop {
            let (Ordered { id, what }, _) = harness.keeper.recv_msg::<Ordered>().unwrap().unwrap();
            let rows = match what {
                Wanted::Order(Order::Ls(0)) => vec![
                    row(1, "live", Some("10.0.0.1")),
                    row(2, "frozen", Some("10.0.0.2")),
                    row(3, "ready", None),
                    row(4, "stopped", Some("10.0.0.4")),
                    row(5, "starting", Some("10.0.0.5")),
                ],
                Wanted::Order(Order::Ls(_)) => vec![],
                _ => continue,
            };
            let is_last = rows.is_empty();
            let answer = KeeperSays::Answer { id, answer: Ok(Answered::Containers(rows)) };
            harness.keeper.send_msg(&answer, &[]).unwrap();
            if is_last {
                break;
            }
        }
        asker.join().unwrap()[0]["ok"].clone()
    })
}

#[test]
fn the_next_console_tells_what_there_is() {
    let mut harness = Harness::new();
    for id in [EventId::SessionStart, EventId::TcpOpen, EventId::ContainerStart, EventId::ContainerLive] {
        let mut event = Event::new(id, Instant::from_micros(clock::monotonic_micros()));
        event.session = SessionId(1);
        harness.sink().emit(&event, b"");
    }
    until("they are logged", || harness.records().len() == 4);
    let mut told = Vec::new();
    for round in ["first", "second"] {
        let mut status: Status = serde_json::from_value(asked(&harness, r#"{"request":"status"}"#)).unwrap();
        assert_eq!((status.sessions_open, status.connections_open), (Some(4), Some(2)), "{round}");
        assert_eq!((status.spare_containers, &status.keeper_error), (1, &None), "{round}");
        assert_eq!(status.counted_since > status.started, round == "second");
        let running = std::mem::take(&mut status.summary.running);
        let states: Vec<&str> = running.iter().map(|container| container.state.as_str()).collect();
        assert_eq!(states, ["live", "frozen", "starting"], "{round}");
        assert!(running.iter().all(|one| one.by.is_some() && one.since.is_some()), "{round}: {running:?}");
        let metrics = asked(&harness, r#"{"request":"metrics"}"#);
        let metrics = metrics.as_str().unwrap();
        for line in ["honeyweave_sessions 4\n", "honeyweave_flows 2\n", "honeyweave_containers 2\n"] {
            assert!(metrics.contains(line), "{round}: {line} in {metrics}");
        }
        told.push(status);
        harness.stop();
        harness.start(plan(vec![]));
        let data = b"the console was started again (process 7)".to_vec();
        let said = Said { event: Event::new(EventId::ProcessState, Instant::ZERO), data };
        harness.supervisor.as_ref().unwrap().send_msg(&said, &[]).unwrap();
        // That the supervisor of the one before went without a word is logged, too.
        let logged = 2 * told.len() + 4;
        until("the console's beginning is logged", || harness.records().len() == logged);
    }
    // What is counted begins anew, and says since when.
    assert!(told[1].counted_since > told[0].counted_since);
    assert_eq!([&told[0], &told[1]].map(|status| status.summary.containers.started), [1, 0]);
}

#[test]
fn what_nobody_tells_is_no_figure() {
    let harness = Harness::new();
    let lines = harness.ask(r#"{"request":"status"}"#);
    let status: Status = serde_json::from_value(lines[0]["ok"].clone()).unwrap();
    assert_eq!((status.sessions_open, status.connections_open), (None, None));
    assert!(status.keeper_error.unwrap().contains("does not answer") && status.switch_error.is_some());
    let metrics = harness.ask(r#"{"request":"metrics"}"#);
    let metrics = metrics[0]["ok"].as_str().unwrap();
    for name in ["honeyweave_sessions", "honeyweave_flows", "honeyweave_containers"] {
        assert!(metrics.contains(&format!("{name} NaN\n")), "{name} in {metrics}");
    }
}
