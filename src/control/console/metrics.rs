//! The console's figures as Prometheus reads them.
//!
//! Handles are made once; per record or frame only a number is added. What the
//! switch counts is asked of it when someone reads the metrics, and so is what
//! there is: of sessions and connections the switch, of containers the keeper. So
//! that is right whenever the console was started, and whatever it has missed.

use std::collections::HashMap;
use std::sync::Mutex;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::Value;

use crate::event::EventId;
use crate::record::sink::SinkStatus;
use crate::record::tape::TapeStats;
use crate::record::{CaptureStats, LogStats, Record};

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

// More devices than nodes come and go, so what is not a node of the plan shares one label.
const OTHERS: &str = "devices-and-links";

/// All handles, and the text that is made of them.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    events: Vec<Counter>,
    sessions_started: Counter,
    sessions: Gauge,
    flows: Gauge,
    containers: Gauge,
    containers_started: Counter,
    containers_live: Counter,
    containers_failed: Counter,
    ring_lost: Counter,
    log_records: Counter,
    log_bytes: Counter,
    log_lost: Counter,
    log_errors: Counter,
    capture_frames: Counter,
    capture_dropped: Counter,
    capture_lost: Counter,
    recordings: Gauge,
    recording_dropped: Counter,
    recording_failing: Gauge,
    nodes: Vec<String>,
    switch: Mutex<SwitchCounters>,
    switch_up: Gauge,
}

/// What there is now, as the switch tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Sessions that went on after the first look.
    pub sessions: u64,
    /// TCP connections.
    pub flows: u64,
}

impl Standing {
    /// What an answer of the switch to a status question says of it.
    pub fn told(status: &Value) -> Standing {
        let rows = status.get("standing").and_then(Value::as_array).into_iter().flatten();
        let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        rows.fold(Standing::default(), |sum, row| Standing {
            sessions: sum.sessions.saturating_add(number(row, "sessions")),
            flows: sum.flows.saturating_add(number(row, "flows")),
        })
    }
}

#[derive(Default)]
struct SwitchCounters {
    counters: HashMap<(&'static str, String, String), (Counter, u64)>,
}

impl Metrics {
    /// Every figure at zero. `nodes` are the names that may become labels.
    pub fn new(nodes: Vec<String>) -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let counter = |name: &'static str, about: &'static str| {
            recorder.describe_counter(name.into(), None, about.into());
            recorder.register_counter(&Key::from_static_name(name), &METADATA)
        };
        let gauge = |name: &'static str, about: &'static str| {
            recorder.describe_gauge(name.into(), None, about.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        // Nothing is known as long as nobody has told: zero would be a figure.
        let standing = |name, about| {
            let gauge = gauge(name, about);
            gauge.set(f64::NAN);
            gauge
        };
        let events = EventId::ALL.iter().map(|id| {
            let key = Key::from_parts("honeyweave_events_total", vec![Label::from_static_parts("event", id.as_str())]);
            recorder.register_counter(&key, &METADATA)
        });
        let events = events.collect();
        for (name, about) in [
            ("honeyweave_events_total", "Events recorded, by their id."),
            ("honeyweave_frames_total", "Frames received and sent by each node."),
            ("honeyweave_drops_total", "Frames discarded, by node and reason."),
            ("honeyweave_sink_sent_total", "Messages that each sink's receiver took."),
            ("honeyweave_sink_lost_total", "Records that the log deleted before they were sent."),
            ("honeyweave_sink_failures_total", "Attempts to send that failed."),
        ] {
            recorder.describe_counter(name.into(), None, about.into());
        }
        for (name, about) in [
            ("honeyweave_sink_behind", "Records that a sink has not sent or passed over yet."),
            ("honeyweave_sink_up", "Whether a sink's receiver takes records."),
        ] {
            recorder.describe_gauge(name.into(), None, about.into());
        }
        Metrics {
            events,
            sessions_started: counter("honeyweave_sessions_started_total", "Sessions begun."),
            sessions: standing("honeyweave_sessions", "Sessions that went on after the first look and have not ended."),
            flows: standing("honeyweave_flows", "TCP connections that are open."),
            containers: standing("honeyweave_containers", "Containers of hosts that are live or frozen."),
            containers_started: counter("honeyweave_containers_started_total", "Containers started."),
            containers_live: counter("honeyweave_containers_live_total", "Containers that came to life."),
            containers_failed: counter("honeyweave_containers_failed_total", "Containers that failed."),
            ring_lost: counter("honeyweave_events_lost_total", "Events lost before they reached the console."),
            log_records: counter("honeyweave_log_records_total", "Records written to the event log."),
            log_bytes: counter("honeyweave_log_bytes_total", "Octets written to the event log."),
            log_lost: counter("honeyweave_log_lost_total", "Records lost because the disk took none."),
            log_errors: counter("honeyweave_log_errors_total", "Failed attempts to write the event log."),
            capture_frames: counter("honeyweave_capture_frames_total", "Frames captured."),
            capture_dropped: counter("honeyweave_capture_dropped_total", "Frames that the disk did not take."),
            capture_lost: counter("honeyweave_capture_lost_total", "Frames lost before they reached the console."),
            recordings: gauge(
                "honeyweave_recordings",
                "Connections that the switch is in the middle of and that are being recorded.",
            ),
            recording_dropped: counter(
                "honeyweave_recording_dropped_total",
                "What was told of connections that are not recorded.",
            ),
            recording_failing: gauge(
                "honeyweave_recording_failing",
                "Whether less is recorded of connections than should be, because of the disk.",
            ),
            switch_up: gauge("honeyweave_switch_up", "Whether the switch answers."),
            nodes,
            switch: Mutex::default(),
            handle,
            recorder,
        }
    }

    /// Counts a record.
    pub fn record(&self, record: &Record) {
        if let Some(counter) = self.events.get(record.event as usize) {
            counter.increment(1);
        }
        match record.event {
            EventId::ContainerStart => self.containers_started.increment(1),
            EventId::ContainerLive => self.containers_live.increment(1),
            EventId::ContainerFailed => self.containers_failed.increment(1),
            _ => {}
        }
    }

    /// Counts a session of which the first record was made.
    pub fn session_began(&self) {
        self.sessions_started.increment(1);
    }

    /// Counts events that were lost before they came here.
    pub fn lost(&self, events: u64) {
        self.ring_lost.increment(events);
    }

    /// Sessions and connections went with the switch, and the next one has not told of any yet.
    pub fn switch_ended(&self) {
        self.sessions.set(0.0);
        self.flows.set(0.0);
    }

    /// Takes over what the recorder counts by itself.
    pub fn update(&self, log: &LogStats, captures: &CaptureStats) {
        self.log_records.absolute(log.records);
        self.log_bytes.absolute(log.bytes);
        self.log_lost.absolute(log.lost);
        self.log_errors.absolute(log.write_errors);
        self.capture_frames.absolute(captures.frames);
        self.capture_dropped.absolute(captures.dropped);
        self.capture_lost.absolute(captures.ring_lost);
    }

    /// Takes over how many containers of hosts there are; `None` if nobody tells.
    pub fn containers(&self, there: Option<usize>) {
        there.into_iter().for_each(|there| self.containers.set(there as f64));
    }

    /// Takes over how recordings of connections are doing.
    pub fn tapes(&self, stats: &TapeStats) {
        self.recordings.set(stats.open as f64);
        self.recording_dropped.absolute(stats.dropped);
        self.recording_failing.set(f64::from(u8::from(stats.failing.is_some())));
    }

    /// Takes over how sinks are doing.
    pub fn sinks(&self, sinks: &[SinkStatus]) {
        for sink in sinks {
            let key =
                |name| Key::from_parts(SharedString::const_str(name), vec![Label::new("sink", sink.sink.clone())]);
            let counter = |name, value| self.recorder.register_counter(&key(name), &METADATA).absolute(value);
            let gauge = |name, value: f64| self.recorder.register_gauge(&key(name), &METADATA).set(value);
            counter("honeyweave_sink_sent_total", sink.sent);
            counter("honeyweave_sink_lost_total", sink.lost);
            counter("honeyweave_sink_failures_total", sink.failures);
            gauge("honeyweave_sink_behind", sink.behind as f64);
            gauge("honeyweave_sink_up", f64::from(u8::from(sink.state == "up")));
        }
    }

    /// Takes over the switch's answer to a status question; `None` if it gave none.
    pub fn switch(&self, status: Option<&Value>) {
        self.switch_up.set(f64::from(u8::from(status.is_some())));
        let Some(status) = status else { return };
        let now = Standing::told(status);
        self.sessions.set(now.sessions as f64);
        self.flows.set(now.flows as f64);
        let mut seen: HashMap<(&'static str, String, String), u64> = HashMap::new();
        let rows = |name: &str| status.get(name).and_then(Value::as_array).into_iter().flatten();
        let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        for row in rows("nodes") {
            for direction in ["rx", "tx"] {
                let key = ("honeyweave_frames_total", self.label(text(row, "node")), direction.to_owned());
                *seen.entry(key).or_default() += number(row, direction);
            }
        }
        for row in rows("drops") {
            let reason = text(row, "reason");
            // The switch faces the attacker: only what there is becomes a label.
            if crate::event::DropReason::ALL.iter().any(|known| known.as_str() == reason) {
                let key = ("honeyweave_drops_total", self.label(text(row, "node")), reason);
                *seen.entry(key).or_default() += number(row, "count");
            }
        }
        let mut switch = self.switch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (key, value) in seen {
            let (counter, last) = switch.counters.entry(key.clone()).or_insert_with(|| {
                let second = if key.0 == "honeyweave_drops_total" { "reason" } else { "direction" };
                let labels = vec![Label::new("node", key.1), Label::new(second, key.2)];
                (self.recorder.register_counter(&Key::from_parts(SharedString::from(key.0), labels), &METADATA), 0)
            });
            // A switch that was started anew counts from zero, our sums go on.
            counter.increment(if value >= *last { value - *last } else { value });
            *last = value;
        }
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn label(&self, node: String) -> String {
        if self.nodes.contains(&node) { node } else { OTHERS.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::Utc;

    fn value(text: &str, line: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }

    #[test]
    fn counts_what_is_recorded() {
        let metrics = Metrics::new(vec!["core".into()]);
        for id in [EventId::SessionStart, EventId::SessionStart, EventId::SessionEnd] {
            metrics.record(&Record::bare(0, Utc::default(), id));
        }
        metrics.lost(3);
        metrics.session_began();
        let text = metrics.render();
        assert_eq!(value(&text, "honeyweave_events_total{event=\"session.start\"}"), Some(2.0));
        assert_eq!(value(&text, "honeyweave_events_total{event=\"node.panic\"}"), Some(0.0));
        assert_eq!(value(&text, "honeyweave_sessions_started_total "), Some(1.0));
        assert_eq!(value(&text, "honeyweave_events_lost_total "), Some(3.0));
        assert!(text.contains("# HELP honeyweave_events_total Events recorded"));
    }

    #[test]
    fn what_there_is_is_told_by_those_who_have_it() {
        let metrics = Metrics::new(vec!["lan".into()]);
        let gauges = |text: &str| {
            ["honeyweave_sessions ", "honeyweave_flows ", "honeyweave_containers "].map(|name| value(text, name))
        };
        assert!(gauges(&metrics.render()).iter().all(|value| value.is_some_and(f64::is_nan)), "nobody has told yet");
        let row = |node: &str, sessions: u64, flows: u64| json!({"node": node, "sessions": sessions, "flows": flows});
        metrics.switch(Some(&json!({"standing": [row("lan", 3, 2), row("dmz", 1, 0), {"node": 7, "flows": "many"}]})));
        metrics.containers(Some(2));
        // What is recorded says nothing of that: it may have begun before this console did.
        metrics.record(&Record::bare(0, Utc::default(), EventId::SessionEnd));
        metrics.record(&Record::bare(0, Utc::default(), EventId::TcpOpen));
        assert_eq!(gauges(&metrics.render()), [Some(4.0), Some(2.0), Some(2.0)]);
        // Whoever does not answer has not lost everything.
        metrics.switch(None);
        metrics.containers(None);
        assert_eq!(gauges(&metrics.render()), [Some(4.0), Some(2.0), Some(2.0)]);
        // But what ended with it is not there until the next one says what is.
        metrics.switch_ended();
        metrics.switch(None);
        assert_eq!(gauges(&metrics.render()), [Some(0.0), Some(0.0), Some(2.0)]);
        metrics.switch(Some(&json!({"standing": [row("lan", 1, 1)]})));
        metrics.containers(Some(0));
        assert_eq!(gauges(&metrics.render()), [Some(1.0), Some(1.0), Some(0.0)]);
    }

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../../docs/console.md");
        let mut documented: Vec<&str> =
            page.lines().filter_map(|l| l.strip_prefix("| `honeyweave_")?.split('`').next()).collect();
        let metrics = Metrics::new(vec!["core".into()]);
        metrics.switch(Some(&json!({
            "nodes": [{"node": "core", "rx": 1, "tx": 1}],
            "drops": [{"node": "core", "reason": "malformed", "count": 1}],
        })));
        metrics.sinks(&[SinkStatus { sink: "siem".into(), sent: 7, state: "up".into(), ..SinkStatus::default() }]);
        let text = metrics.render();
        assert_eq!(value(&text, "honeyweave_sink_sent_total{sink=\"siem\"}"), Some(7.0));
        assert_eq!(value(&text, "honeyweave_sink_up{sink=\"siem\"}"), Some(1.0));
        let mut there: Vec<&str> =
            text.lines().filter_map(|l| l.strip_prefix("# TYPE honeyweave_")?.split(' ').next()).collect();
        documented.sort_unstable();
        there.sort_unstable();
        assert_eq!(documented, there);
    }

    #[test]
    fn sums_go_on_when_the_switch_counts_anew() {
        let metrics = Metrics::new(vec!["core".into()]);
        let status = |rx: u64, drops: u64| {
            json!({
                "nodes": [{"node": "core", "rx": rx, "tx": 1}, {"node": "\u{1b}evil\"", "rx": 1, "tx": 1}],
                "drops": [{"node": "core", "reason": "malformed", "count": drops},
                    {"node": "core", "reason": "made-up", "count": 9}],
            })
        };
        for (rx, drops) in [(10, 5), (12, 5), (3, 1)] {
            metrics.switch(Some(&status(rx, drops)));
        }
        let text = metrics.render();
        assert_eq!(value(&text, "honeyweave_frames_total{node=\"core\",direction=\"rx\"}"), Some(15.0));
        assert_eq!(value(&text, "honeyweave_drops_total{node=\"core\",reason=\"malformed\"}"), Some(6.0));
        assert!(!text.contains("made-up") && !text.contains("evil"), "{text}");
        assert_eq!(value(&text, "honeyweave_switch_up "), Some(1.0));
        metrics.switch(None);
        assert_eq!(value(&metrics.render(), "honeyweave_switch_up "), Some(0.0));
        for odd in [json!(null), json!([1]), json!({"nodes": 3, "drops": [null, {}]})] {
            metrics.switch(Some(&odd));
        }
    }
}
