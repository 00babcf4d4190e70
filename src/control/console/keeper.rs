//! The console's end of its channel to the keeper: what it says happened, and orders for containers.
//!
//! Lists of what intruders changed are an inspector's words, which was near what they left: they are read as what
//! they have to be, within bounds, before anybody is told them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::inside::Known;
use super::logs::Logs;
use super::to_recorder::ToRecorder;
use crate::container::inspector::Answer;
use crate::container::{Answered, ContainerRow, KeeperSays, Logged, Order, Ordered, Wanted};
use crate::sys::seqpacket::{AsyncChannel, Channel};
use crate::sys::{clock, memory};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// The same where who asks wants to know much else besides.
const GLANCE: Duration = Duration::from_secs(2);
/// That there is none.
const SILENT: &str = "the keeper does not answer; `honeyweave events` says whether it restarts";
/// The same while a container is looked at: longer than the keeper lets an inspector work on the largest of disks.
const LOOK: Duration = Duration::from_secs(600);
/// Octets of a list of changes: more than an inspector writes.
const LISTED: usize = 32 << 20;
/// How often it is asked at most whose containers are.
const LEARN: Duration = Duration::from_millis(500);
/// Orders that wait for an answer at once.
const ORDERS: usize = 64;

type Asked = Result<(Answered, Option<OwnedFd>), String>;
type Asker = oneshot::Sender<Asked>;

/// The keeper, as the console sees it.
pub struct Keeper {
    channel: AsyncChannel,
    waiting: Mutex<(u64, HashMap<u64, Asker>)>,
    /// Whose the containers are that are watched.
    pub known: Arc<Known>,
    /// The containers whose programs log.
    pub logs: Logs,
}

impl Keeper {
    /// Takes over the channel. Must be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub fn new(channel: Channel, known: Arc<Known>) -> io::Result<Arc<Keeper>> {
        // Answers to orders of a console that died must fit none of ours.
        let first = clock::monotonic_micros().unsigned_abs();
        Ok(Arc::new(Keeper {
            channel: AsyncChannel::new(channel)?,
            waiting: Mutex::new((first, HashMap::new())),
            known,
            logs: Logs::default(),
        }))
    }

    /// Has `order` done.
    ///
    /// # Errors
    /// A sentence for who ordered it, if it cannot be done or nobody answers.
    pub async fn order(&self, order: Order) -> Result<Value, String> {
        let told = |value: &dyn Fn() -> serde_json::Result<Value>| value().map_err(|error| error.to_string());
        let Order::Ls(after) = order else {
            return match self.ask(Wanted::Order(order)).await? {
                (Answered::Containers(rows), _) => told(&|| serde_json::to_value(&rows)),
                (Answered::Taken(taken), _) => told(&|| serde_json::to_value(&taken)),
                (Answered::Changes, memory) => {
                    let memory = memory.ok_or("the keeper answered without an answer")?;
                    let read = tokio::task::spawn_blocking(move || read_changes(memory)).await;
                    read.map_err(|error| error.to_string())?
                }
                _ => Err("the keeper answered something else".into()),
            };
        };
        let all = self.list(after).await?;
        told(&|| serde_json::to_value(&all))
    }

    /// The containers there are now.
    ///
    /// # Errors
    /// A sentence, if nobody answers within two seconds.
    pub async fn containers(&self) -> Result<Vec<ContainerRow>, String> {
        let listed = tokio::time::timeout(GLANCE, self.list(0)).await;
        listed.unwrap_or_else(|_| Err(SILENT.into()))
    }

    /// The containers with greater numbers than `after`.
    async fn list(&self, mut after: u32) -> Result<Vec<ContainerRow>, String> {
        let mut all = Vec::new();
        loop {
            let (Answered::Containers(rows), _) = self.ask(Wanted::Order(Order::Ls(after))).await? else {
                return Err("the keeper answered something else".into());
            };
            let Some(last) = rows.last() else { return Ok(all) };
            // They come in the order of their numbers, or for ever.
            if last.number <= after {
                return Err("the keeper lists its containers in no order".into());
            }
            after = last.number;
            all.extend(rows);
        }
    }

    /// Asks whose the containers are that are watched, now and whenever there is one that nothing was heard of.
    pub async fn learn(&self) {
        loop {
            let mut after = 0;
            // An answer without any is the last one; a keeper that is being started is asked again.
            while let Ok((Answered::Watched(watched), _)) = self.ask(Wanted::Watched(after)).await
                && let Some(last) = watched.last().map(|last| last.number)
                && last > after
            {
                watched.iter().for_each(|watched| self.known.learn(watched));
                after = last;
            }
            tokio::time::sleep(LEARN).await;
            self.known.missing().await;
        }
    }

    /// The file that a sensor writes, unless it is the one of device and inode `have`.
    ///
    /// # Errors
    /// A sentence, if there is none or nobody answers.
    pub async fn sensor(&self, (dev, ino): (u64, u64)) -> Result<Option<OwnedFd>, String> {
        match self.ask(Wanted::Sensor { dev, ino }).await? {
            (Answered::Sensor, Some(file)) => Ok(Some(file)),
            (Answered::Same, _) => Ok(None),
            _ => Err("the keeper answered something else".into()),
        }
    }

    /// All containers that may have a log.
    ///
    /// # Errors
    /// A sentence, if nobody answers.
    pub async fn list_logs(&self) -> Result<Vec<Logged>, String> {
        let mut all: Vec<Logged> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.number);
            match self.ask(Wanted::Logs(after)).await? {
                (Answered::Logs(rows), _) if rows.is_empty() => return Ok(all),
                // They come in the order of their numbers, or for ever.
                (Answered::Logs(rows), _) if rows.first().is_some_and(|row| row.number > after) => all.extend(rows),
                _ => return Err("the keeper answered something else".into()),
            }
        }
    }

    /// The socket that the programs of container `number` log to.
    ///
    /// # Errors
    /// A sentence, if there is none or nobody answers.
    pub async fn log(&self, number: u32) -> Result<OwnedFd, String> {
        match self.ask(Wanted::Log(number)).await? {
            (Answered::Log, Some(log)) => Ok(log),
            _ => Err("the keeper answered something else".into()),
        }
    }

    /// Has the keeper keep that socket.
    ///
    /// # Errors
    /// A sentence, if nobody answers.
    pub async fn keep_log(&self, number: u32, log: BorrowedFd<'_>) -> Result<(), String> {
        self.ask_with(Wanted::KeepLog(number), &[log]).await.map(drop)
    }

    async fn ask(&self, what: Wanted) -> Asked {
        self.ask_with(what, &[]).await
    }

    async fn ask_with(&self, what: Wanted, fds: &[BorrowedFd<'_>]) -> Asked {
        let (asker, answered) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            waiting.1.retain(|_, asker| !asker.is_closed());
            if waiting.1.len() >= ORDERS {
                return Err("too many orders wait for the keeper; try again".into());
            }
            waiting.0 += 1;
            let id = waiting.0;
            waiting.1.insert(id, asker);
            id
        };
        let exchange = async {
            self.channel.send_msg(&Ordered { id, what }, fds).await.map_err(|error| format!("the keeper: {error}"))?;
            answered.await.map_err(|_| "the keeper went away".to_owned())?
        };
        let patience = if matches!(what, Wanted::Order(Order::Snapshot(_) | Order::Diff(_))) { LOOK } else { ANSWER };
        let result = tokio::time::timeout(patience, exchange).await;
        self.waiting().1.remove(&id);
        result.unwrap_or_else(|_| Err(SILENT.into()))
    }

    /// Passes on what the keeper says until the channel closes.
    pub async fn listen(&self, to_recorder: &ToRecorder) {
        loop {
            match self.channel.recv_msg::<KeeperSays>().await {
                Ok(Some((KeeperSays::Said(message), _))) => {
                    if !to_recorder.tell(message).await {
                        return;
                    }
                }
                Ok(Some((KeeperSays::Watches(watched), _))) => self.known.learn(&watched),
                Ok(Some((KeeperSays::Unwatches(key), _))) => self.known.forget(key, clock::monotonic_micros()),
                Ok(Some((KeeperSays::Logs(logged), _))) => self.logs.learn(&logged),
                Ok(Some((KeeperSays::Unlogs(number), _))) => self.logs.forget(number),
                Ok(Some((KeeperSays::Answer { id, answer }, mut fds))) => {
                    if let Some(asker) = self.waiting().1.remove(&id) {
                        // Whoever asked may have given up.
                        let _ = asker.send(answer.map(|answered| (answered, fds.pop())));
                    }
                }
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(%error, "the keeper sent what is no message");
                }
                Err(error) => {
                    tracing::error!(%error, "the channel to the keeper failed");
                    return;
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, (u64, HashMap<u64, Asker>)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list of changes that an inspector has written.
fn read_changes(fd: OwnedFd) -> Result<Value, String> {
    // Anything but memory could make the reader wait for ever.
    let kind = rustix::fs::fstat(&fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(rustix::fs::FileType::RegularFile)) {
        return Err("the keeper answered with something that is no memory".into());
    }
    let text = memory::read_all(fd, LISTED).map_err(|error| format!("the list of changes: {error}"))?;
    if text.is_empty() {
        return Err("the inspector took too long, or crashed; it may be that there is too much to read".into());
    }
    match serde_json::from_slice::<Answer>(&text) {
        Ok(Answer::Listed(diff)) => serde_json::to_value(diff).map_err(|error| error.to_string()),
        Ok(Answer::Failed(why)) => Err(why),
        Ok(Answer::Taken(_) | Answer::Noted(_)) => Err("the inspector answered something else".into()),
        Err(error) => Err(format!("the list of changes is none: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::inspector::Diff;

    #[test]
    fn only_a_list_of_changes_is_told() {
        let read = |text: &[u8]| read_changes(memory::sealed(c"honeyweave-test", text).unwrap());
        let list = serde_json::to_vec(&Answer::Listed(Diff::default())).unwrap();
        assert_eq!(read(&list).unwrap()["changes"], serde_json::json!([]));
        let failed = serde_json::to_vec(&Answer::Failed("cannot open".into())).unwrap();
        assert_eq!(read(&failed), Err("cannot open".into()));
        assert!(read(b"").unwrap_err().contains("crashed"));
        assert!(read(b"{\"Listed\":{\"changes\":[7]}}").unwrap_err().contains("is none"));
        assert!(read(&vec![b' '; LISTED + 1]).unwrap_err().contains("more than"));
        let (pipe, _) = io::pipe().unwrap();
        assert!(read_changes(pipe.into()).unwrap_err().contains("no memory"));
    }
}
