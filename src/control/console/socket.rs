//! The control socket: many clients, each with its own task, none of which can
//! hold up another or the console. See [`crate::control::Request`] for what they say.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use super::keeper::Keeper;
use super::metrics::Standing;
use super::shared::Shared;
use super::switch::{Switch, cut, rows};
use crate::container::ContainerRow;
use crate::control::request::{Answer, MAX_LAST, MAX_REQUEST, MAX_ROWS, Request, Status, Table};
use crate::control::{Inside, Query, ToSupervisor};
use crate::node::Show;
use crate::record::{ContainerState, Filter, SummaryView, Utc, by_time, search};
use crate::sys::clock;
use crate::sys::seqpacket::AsyncChannel;

/// Clients at once.
const CLIENTS: usize = 64;
/// Searches through the log's files at once.
const SEARCHES: usize = 2;
/// How long a client may think before it asks.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may leave what it was told unread.
const STALL: Duration = Duration::from_secs(30);

/// What clients are answered from.
pub struct Desk {
    /// What the recorder knows.
    pub shared: Arc<Shared>,
    /// The switch.
    pub switch: Arc<Switch>,
    /// The supervisor.
    pub supervisor: Arc<AsyncChannel>,
    /// The keeper.
    pub keeper: Arc<Keeper>,
    /// Name of the honeynet.
    pub name: String,
    /// When it was started.
    pub started: Utc,
    /// When this console was.
    pub begun: Utc,
    /// Threads of the data plane.
    pub threads: u16,
    /// Process number of the supervisor.
    pub pid: u32,
    /// Whether what happens inside containers is watched.
    pub inside: Inside,
    /// Where the honeynet keeps what it writes.
    pub dir: PathBuf,
    clients: Arc<Semaphore>,
    searches: Semaphore,
}

impl Desk {
    /// A desk without clients.
    pub fn new(
        shared: Arc<Shared>,
        switch: Arc<Switch>,
        supervisor: Arc<AsyncChannel>,
        keeper: Arc<Keeper>,
        config: &crate::control::ConsoleConfig,
    ) -> Desk {
        Desk {
            shared,
            switch,
            supervisor,
            keeper,
            name: config.plan.name.clone(),
            started: Utc::from_micros(config.started_micros),
            begun: Utc::from_micros(clock::realtime_micros()),
            pid: config.supervisor,
            inside: config.inside.clone(),
            threads: config.threads,
            dir: config.dir.clone(),
            clients: Arc::new(Semaphore::new(CLIENTS)),
            searches: Semaphore::new(SEARCHES),
        }
    }

    /// Serves clients for ever.
    pub async fn serve(self: Arc<Desk>, listener: UnixListener) {
        loop {
            let mut stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly a lack of descriptors, which passes.
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = self.clients.clone().try_acquire_owned() else {
                let busy = line(&Answer::Error(format!("busy: {CLIENTS} clients are connected already")));
                let _ = stream.try_write(busy.as_bytes());
                continue;
            };
            let desk = self.clone();
            tokio::spawn(async move {
                // A client that goes away in the middle is nobody's trouble.
                let _ = desk.client(&mut stream).await;
                drop(permit);
            });
        }
    }

    async fn client(&self, stream: &mut UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.split();
        let mut read = BufReader::with_capacity(MAX_REQUEST, read);
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut limited = (&mut read).take(MAX_REQUEST as u64);
            let got = tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut text)).await;
            match got {
                Err(_) | Ok(Ok(0)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) => {}
            }
            if text.last() != Some(&b'\n') {
                let why = if text.len() >= MAX_REQUEST {
                    format!("a request has at most {MAX_REQUEST} octets")
                } else {
                    "the request ended without a line feed".to_owned()
                };
                return send(&mut write, &line(&Answer::Error(why))).await;
            }
            match serde_json::from_slice::<Request>(&text) {
                Ok(Request::Events { filter, last, follow }) => {
                    self.events(&mut read, &mut write, filter, last, follow).await?;
                }
                Ok(request) => {
                    let answer = match self.answer(request).await {
                        Ok(value) => Answer::Ok(value),
                        Err(why) => Answer::Error(why),
                    };
                    // Of a table this may be megabytes.
                    let text = elsewhere(move || line(&answer)).await;
                    send(&mut write, &text.unwrap_or_else(|why| line(&Answer::Error(why)))).await?;
                }
                Err(error) => send(&mut write, &line(&Answer::Error(format!("not a request: {error}")))).await?,
            }
        }
    }

    async fn answer(&self, request: Request) -> Result<serde_json::Value, String> {
        match request {
            Request::Status => serde_json::to_value(self.status().await).map_err(|e| e.to_string()),
            Request::Hosts { limit } => self.show(Show::Hosts, limit).await,
            Request::Show { table, limit } => match table {
                Table::Fdb => self.show(Show::Fdb, limit).await,
                Table::Fib => self.show(Show::Fib, limit).await,
                Table::Neigh => self.show(Show::Neigh, limit).await,
                Table::Flows => self.show(Show::Flows, limit).await,
                Table::Drops => self.counters("drops").await,
                Table::Links => self.counters("links").await,
            },
            Request::Container { order } => self.keeper.order(order).await,
            Request::Metrics => Ok(self.metrics().await.into()),
            Request::Down => {
                let sent = tokio::time::timeout(STALL, self.supervisor.send_msg(&ToSupervisor::Down, &[])).await;
                match sent {
                    Ok(Ok(())) => Ok(serde_json::Value::Null),
                    Ok(Err(error)) => Err(format!("the supervisor cannot be told: {error}")),
                    Err(_) => Err("the supervisor does not listen".into()),
                }
            }
            Request::Events { .. } => Err("answered elsewhere".into()),
        }
    }

    /// The metrics as text, those of the switch as it tells them now.
    pub async fn metrics(&self) -> String {
        let (status, containers) = tokio::join!(self.switch.query(Query::Status), self.keeper.containers());
        self.shared.metrics.switch(status.as_ref().ok());
        let runs = |row: &&ContainerRow| row.host.is_some() && matches!(row.state.as_str(), "live" | "frozen");
        self.shared.metrics.containers(containers.ok().map(|rows| rows.iter().filter(runs).count()));
        self.shared.metrics.sinks(&self.shared.sinks());
        self.shared.metrics.render()
    }

    async fn status(&self) -> Status {
        let (answer, containers) = tokio::join!(self.switch.query(Query::Status), self.keeper.containers());
        let standing = answer.as_ref().ok().map(Standing::told);
        let (mut answer, switch_error) = match answer {
            Ok(answer) => (answer, None),
            Err(why) => (serde_json::Value::Null, Some(why)),
        };
        let (containers, keeper_error) = match containers {
            Ok(containers) => (containers, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let running = containers.iter().filter_map(|row| self.container(row)).collect();
        let mut part = |name: &str| rows(answer.get_mut(name).map_or(serde_json::Value::Null, serde_json::Value::take));
        let (log, captures) = self.shared.stats();
        let (inside, inside_limit, inside_error) = match &self.inside {
            Inside::Watched => (Some("ebpf"), None, None),
            Inside::Mounts(why) => (Some("fanotify"), Some(why.clone()), None),
            Inside::Nothing => (None, None, None),
            Inside::Failed(why) => (None, None, Some(why.clone())),
        };
        Status {
            name: self.name.clone(),
            dir: self.dir.clone(),
            started: self.started,
            now: Utc::from_micros(clock::realtime_micros()),
            supervisor: self.pid,
            threads: self.threads,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            switch_error,
            inside: inside.map(str::to_owned),
            inside_limit,
            inside_error,
            nodes: part("nodes"),
            devices: part("devices"),
            counted_since: if self.shared.follows() { self.begun } else { self.started },
            sessions_open: standing.map(|standing| standing.sessions),
            connections_open: standing.map(|standing| standing.flows),
            keeper_error,
            spare_containers: containers.iter().filter(|row| row.state == "ready").count(),
            summary: SummaryView { running, ..self.shared.summary().view() },
            log,
            captures,
            recordings_error: self.shared.recordings_error(),
            sinks: self.shared.sinks(),
        }
    }

    /// A container as it is told, if it is a host's and there is more of it than files.
    fn container(&self, row: &ContainerRow) -> Option<ContainerState> {
        let is_there = matches!(row.state.as_str(), "queued" | "starting" | "live" | "frozen");
        Some(ContainerState {
            node: row.node.clone(),
            ip: row.host.filter(|_| is_there)?,
            state: row.state.clone(),
            since: row.since,
            by: row.by.map(|ip| self.shared.mask.ip(ip)),
        })
    }

    async fn show(&self, what: Show, limit: u32) -> Result<serde_json::Value, String> {
        let limit = limit.min(MAX_ROWS);
        // One more than is told, so that it can be said whether there are more.
        let answer = self.switch.query(Query::Show { what, limit: limit + 1 }).await?;
        elsewhere(move || cut(rows(answer), limit as usize).into()).await
    }

    async fn counters(&self, name: &str) -> Result<serde_json::Value, String> {
        let mut answer = self.switch.query(Query::Status).await?;
        let part = answer.get_mut(name).map(serde_json::Value::take);
        Ok(rows(part.ok_or_else(|| format!("the switch does not tell its {name}"))?).into())
    }

    async fn events(
        &self,
        read: &mut (impl AsyncReadExt + Unpin),
        write: &mut (impl AsyncWriteExt + Unpin),
        filter: Filter,
        last: usize,
        follow: bool,
    ) -> io::Result<()> {
        // Listening begins before the search, so that nothing is missed in between.
        let mut feed = follow.then(|| self.shared.feed());
        let found =
            if last > 0 { self.search(filter.clone(), last.min(MAX_LAST)).await } else { Ok(Default::default()) };
        let (found, newest) = match found {
            Ok(found) => found,
            Err(why) => return send(write, &line(&Answer::Error(why))).await,
        };
        let mut lines = String::new();
        for text in found {
            push_record(&mut lines, &text);
            if lines.len() > 1 << 16 {
                send(write, &lines).await?;
                lines.clear();
            }
        }
        send(write, &lines).await?;
        let mut octet = [0];
        while let Some(feed) = &mut feed {
            let received = tokio::select! {
                received = feed.recv() => received,
                // Whatever it says now: a follower that has closed, or wants something else, follows no more.
                _ = read.read(&mut octet) => return Ok(()),
            };
            lines.clear();
            match received {
                Ok(text) => match filter.matches(&text) {
                    Some(seq) if newest.is_none_or(|newest| seq > newest) => push_record(&mut lines, &text),
                    _ => continue,
                },
                Err(RecvError::Lagged(lost)) => lines = line(&Answer::Lost(lost)),
                Err(RecvError::Closed) => break,
            }
            // What else is there already goes along.
            while lines.len() < 1 << 16
                && let Ok(text) = feed.try_recv()
            {
                if filter.matches(&text).is_some_and(|seq| newest.is_none_or(|newest| seq > newest)) {
                    push_record(&mut lines, &text);
                }
            }
            send(write, &lines).await?;
        }
        send(write, &line(&Answer::Ok(serde_json::Value::Null))).await
    }

    /// The last `last` records that fit, and the number of the newest of them.
    async fn search(&self, filter: Filter, last: usize) -> Result<(Vec<String>, Option<u64>), String> {
        let Ok(_permit) = self.searches.acquire().await else { return Err("the console is ending".into()) };
        let dir = self.dir.join("events");
        let place = dir.display().to_string();
        let searched = elsewhere(move || {
            let found = by_time(search(&dir, &filter, last)?);
            let newest = found.iter().filter_map(|text| Filter::default().matches(text)).max();
            io::Result::Ok((found, newest))
        });
        searched.await?.map_err(|error| format!("cannot read the event log in {place}: {error}"))
    }
}

/// Does what takes long where that holds up no other client.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the console could not do it: {error}"))
}

fn push_record(lines: &mut String, text: &str) {
    lines.push_str("{\"record\":");
    lines.push_str(text);
    lines.push_str("}\n");
}

fn line(answer: &Answer) -> String {
    let text = serde_json::to_string(answer).unwrap_or_else(|_| r#"{"error":"the answer cannot be written"}"#.into());
    text + "\n"
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), text: &str) -> io::Result<()> {
    match tokio::time::timeout(STALL, write.write_all(text.as_bytes())).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
