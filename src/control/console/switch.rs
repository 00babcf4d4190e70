//! The console's end of its channel to the switch: questions, and sockets to
//! proxy targets.
//!
//! The switch faces the attacker. What it sends is checked, bounded and never
//! waited for without a limit of time.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::shared::Shared;
use super::tapes::{Telling, Told};
use crate::control::{Query, ToConsole, ToSwitch};
use crate::event::Utc;
use crate::service::Proxy;
use crate::sys::clock;
use crate::sys::memory;
use crate::sys::seqpacket::{AsyncChannel, Channel};

/// How long an answer of the switch is waited for.
const ANSWER: Duration = Duration::from_secs(3);
/// The longest answer, in octets.
const MAX_ANSWER: usize = 64 << 20;
/// Connections to proxy targets that are being opened at once.
const PROXIES: usize = 256;
/// Questions that wait for an answer at once.
const QUESTIONS: usize = 64;
/// The longest that connecting to a proxy target may take, whatever the topology says.
const MAX_CONNECT_MS: u32 = 60_000;

type Waiting = HashMap<u64, oneshot::Sender<Result<Value, String>>>;

/// The switch, as the console sees it.
pub struct Switch {
    channel: AsyncChannel,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
    proxies: Vec<Proxy>,
    connecting: Arc<Semaphore>,
    tapes: Telling,
}

impl Switch {
    /// Takes over the channel; what is said of connections goes to `tapes`. Must be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub fn new(channel: Channel, proxies: Vec<Proxy>, tapes: Telling) -> io::Result<Arc<Switch>> {
        Ok(Arc::new(Switch {
            channel: AsyncChannel::new(channel)?,
            waiting: Mutex::default(),
            // Answers to questions of a console that died must fit none of ours.
            next: AtomicU64::new(clock::monotonic_micros().unsigned_abs()),
            proxies,
            connecting: Arc::new(Semaphore::new(PROXIES)),
            tapes,
        }))
    }

    /// Asks the switch.
    ///
    /// # Errors
    /// A sentence for the asker, if there is no answer within three seconds.
    pub async fn query(&self, what: Query) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.retain(|_, asker| !asker.is_closed());
            if waiting.len() >= QUESTIONS {
                return Err("too many questions wait for the switch; try again".into());
            }
            waiting.insert(id, answer);
        }
        let exchange = async {
            self.channel.send_msg(&ToSwitch::Query { id, what }, &[]).await.map_err(|e| format!("the switch: {e}"))?;
            answered.await.map_err(|_| "the switch went away".to_owned())?
        };
        let result = tokio::time::timeout(ANSWER, exchange).await;
        self.waiting().remove(&id);
        result
            .unwrap_or_else(|_| Err("the switch does not answer; `honeyweave events` says whether it restarts".into()))
    }

    /// Serves the channel until it closes.
    pub async fn run(self: Arc<Switch>, shared: Arc<Shared>) {
        let hello = tokio::time::timeout(ANSWER, self.channel.send_msg(&ToSwitch::Hello, &[]));
        if !matches!(hello.await, Ok(Ok(()))) {
            tracing::warn!("the switch could not be greeted; captures of running containers are named `unknown`");
        }
        loop {
            match self.channel.recv_msg::<ToConsole>().await {
                Ok(Some((message, fds))) => self.take(message, fds, &shared).await,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "the switch sent what is no message");
                }
                Err(error) => {
                    tracing::error!(%error, "the channel to the switch failed");
                    break;
                }
            }
        }
        let now = Utc::from_micros(clock::realtime_micros());
        let _ = self.tapes.send(Told::SwitchEnded(now)).await;
    }

    async fn take(self: &Arc<Switch>, message: ToConsole, mut fds: Vec<OwnedFd>, shared: &Shared) {
        match message {
            ToConsole::Interface { number, node, host } => shared.interface(number, node, host),
            ToConsole::Answer { id } => {
                // Whoever asked may have given up.
                let Some(asker) = self.waiting().remove(&id) else { return };
                let Some(memory) = fds.pop().filter(|_| fds.is_empty()) else {
                    let _ = asker.send(Err("the switch answered without an answer".into()));
                    return;
                };
                tokio::task::spawn_blocking(move || drop(asker.send(read_answer(memory))));
            }
            ToConsole::Tape { conn, word } => {
                // This waits for a disk, and who speaks waits with it. Without the thread nothing is recorded, which it
                // has said.
                let _ = self.tapes.send(Told::Word(conn, Box::new(word))).await;
            }
            ToConsole::Open { conns } => {
                let _ = self.tapes.send(Told::Open(conns)).await;
            }
            ToConsole::Proxy { conn, proxy, peer, local } => {
                let switch = self.clone();
                tokio::spawn(async move {
                    tracing::debug!(conn, proxy, %peer, %local, "opening a proxy's target");
                    switch.open(conn, proxy).await;
                });
            }
        }
    }

    async fn open(&self, conn: u64, proxy: u16) {
        let sent = match self.connect(proxy).await {
            Ok(socket) => {
                let message = ToSwitch::ProxyOpen { conn };
                tokio::time::timeout(ANSWER, self.channel.send_msg(&message, &[socket.as_fd()])).await
            }
            Err(why) => {
                let message = ToSwitch::ProxyFailed { conn, why };
                tokio::time::timeout(ANSWER, self.channel.send_msg(&message, &[])).await
            }
        };
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!(conn, "the switch could not be told what became of a proxy's target");
        }
    }

    async fn connect(&self, proxy: u16) -> Result<std::net::TcpStream, String> {
        let Some(Proxy { target, connect_timeout_ms }) = self.proxies.get(usize::from(proxy)).cloned() else {
            return Err(format!("the topology has no proxy number {proxy}"));
        };
        let Ok(_permit) = self.connecting.try_acquire() else {
            return Err(format!("{target}: {PROXIES} connections to proxy targets are being opened already"));
        };
        let limit = Duration::from_millis(u64::from(connect_timeout_ms.clamp(1, MAX_CONNECT_MS)));
        let socket = match tokio::time::timeout(limit, TcpStream::connect(target)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(format!("{target}: {error}")),
            Err(_) => return Err(format!("{target}: no answer within {} ms", limit.as_millis())),
        };
        let _ = socket.set_nodelay(true);
        socket.into_std().map_err(|e| format!("{target}: {e}"))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_answer(fd: OwnedFd) -> Result<Value, String> {
    // Anything but memory could make the reader wait for ever.
    let kind = rustix::fs::fstat(&fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(rustix::fs::FileType::RegularFile)) {
        return Err("the switch answered with something that is no memory".into());
    }
    let bytes = memory::read_all(fd, MAX_ANSWER).map_err(|e| format!("the switch's answer: {e}"))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("the switch's answer is no JSON: {e}"))
}

/// The rows of a table, each with its node first: the switch answers
/// `[{"node": NAME, "rows": [...]}]` for what nodes know, and plain rows for the rest.
pub fn rows(answer: Value) -> Vec<Value> {
    let Value::Array(entries) = answer else { return Vec::new() };
    let mut rows = Vec::new();
    for entry in entries {
        let Value::Object(mut entry) = entry else { continue };
        let Some(Value::Array(of_node)) = entry.remove("rows") else {
            rows.push(Value::Object(entry));
            continue;
        };
        let node = entry.get("node").cloned().unwrap_or(Value::Null);
        for row in of_node {
            let mut with_node = Map::new();
            with_node.insert("node".to_owned(), node.clone());
            match row {
                Value::Object(row) => with_node.extend(row.into_iter().filter(|(name, _)| name != "node")),
                other => drop(with_node.insert("value".to_owned(), other)),
            }
            rows.push(Value::Object(with_node));
        }
    }
    rows
}

/// The first `limit` rows of each node, and, for each that has more, a last row `{"node": NAME, "cut_at": limit}`.
pub fn cut(rows: Vec<Value>, limit: usize) -> Vec<Value> {
    let mut counts: HashMap<Value, usize> = HashMap::new();
    let mut over = Vec::new();
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        let node = row.get("node").cloned().unwrap_or(Value::Null);
        let count = counts.entry(node).or_insert(0);
        *count += 1;
        if *count <= limit {
            kept.push(row);
        } else if *count == limit + 1 {
            over.push(serde_json::json!({"node": row.get("node"), "cut_at": limit}));
        }
    }
    kept.extend(over);
    kept
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn rows_of_nodes_are_flattened() {
        let answer = json!([
            {"node": "core", "rows": [{"mac": "a", "port": 1}, {"mac": "b", "port": 2, "node": "x"}]},
            {"node": "empty", "rows": []},
            {"node": "edge", "reason": "guard", "count": 3},
            7,
        ]);
        let rows = rows(answer);
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            concat!(
                r#"[{"node":"core","mac":"a","port":1},{"node":"core","mac":"b","port":2},"#,
                r#"{"node":"edge","reason":"guard","count":3}]"#
            )
        );
    }

    #[test]
    fn tables_are_cut_by_node_and_say_so() {
        let row = |node: &str, n: u32| json!({"node": node, "n": n});
        let all = vec![row("a", 1), row("a", 2), row("a", 3), row("b", 1), row("b", 2)];
        assert_eq!(cut(all.clone(), 3), all);
        let two = [row("a", 1), row("a", 2), row("b", 1), row("b", 2), json!({"node": "a", "cut_at": 2})];
        assert_eq!(cut(all.clone(), 2), two);
        assert_eq!(cut(all, 0), [json!({"node": "a", "cut_at": 0}), json!({"node": "b", "cut_at": 0})]);
    }

    #[test]
    fn an_answer_that_is_no_memory_is_not_read() {
        let (read, mut write) = io::pipe().unwrap();
        write.write_all(b"[]").unwrap();
        assert!(read_answer(read.into()).unwrap_err().contains("no memory"));
        assert!(read_answer(EventFd::new().unwrap().into_fd()).unwrap_err().contains("no memory"));
        let good = memory::sealed(c"honeyweave-test", b"[1]").unwrap();
        assert_eq!(read_answer(good), Ok(json!([1])));
        let bad = memory::sealed(c"honeyweave-test", b"[1").unwrap();
        assert!(read_answer(bad).unwrap_err().contains("no JSON"));
    }
}
