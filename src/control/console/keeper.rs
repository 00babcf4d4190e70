//! The console's end of its channel to the keeper: what it says happened, and orders for containers.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::tell;
use crate::container::{ContainerRow, KeeperSays, Order, Ordered};
use crate::event::Said;
use crate::sys::clock;
use crate::sys::eventfd::EventFd;
use crate::sys::seqpacket::{AsyncChannel, Channel};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// Orders that wait for an answer at once.
const ORDERS: usize = 64;

type Asker = oneshot::Sender<Result<Vec<ContainerRow>, String>>;

/// The keeper, as the console sees it.
pub struct Keeper {
    channel: AsyncChannel,
    waiting: Mutex<(u64, HashMap<u64, Asker>)>,
}

impl Keeper {
    /// Takes over the channel. Must be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub fn new(channel: Channel) -> io::Result<Arc<Keeper>> {
        // Answers to orders of a console that died must fit none of ours.
        let first = clock::monotonic_micros().unsigned_abs();
        Ok(Arc::new(Keeper { channel: AsyncChannel::new(channel)?, waiting: Mutex::new((first, HashMap::new())) }))
    }

    /// Has `order` done.
    ///
    /// # Errors
    /// A sentence for who ordered it, if it cannot be done or nobody answers.
    pub async fn order(&self, order: Order) -> Result<Vec<ContainerRow>, String> {
        let Order::Ls(mut after) = order else { return self.ask(order).await };
        let mut all = Vec::new();
        loop {
            let rows = self.ask(Order::Ls(after)).await?;
            let Some(last) = rows.last() else { return Ok(all) };
            // They come in the order of their numbers, or for ever.
            if last.number <= after {
                return Err("the keeper lists its containers in no order".into());
            }
            after = last.number;
            all.extend(rows);
        }
    }

    async fn ask(&self, order: Order) -> Result<Vec<ContainerRow>, String> {
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
            self.channel.send_msg(&Ordered { id, order }, &[]).await.map_err(|error| format!("the keeper: {error}"))?;
            answered.await.map_err(|_| "the keeper went away".to_owned())?
        };
        let result = tokio::time::timeout(ANSWER, exchange).await;
        self.waiting().1.remove(&id);
        result
            .unwrap_or_else(|_| Err("the keeper does not answer; `honeyweave events` says whether it restarts".into()))
    }

    /// Passes on what the keeper says until the channel closes.
    pub async fn listen(&self, said: &SyncSender<Said>, wake: &EventFd) {
        loop {
            match self.channel.recv_msg::<KeeperSays>().await {
                Ok(Some((KeeperSays::Said(message), _))) => {
                    if !tell(message, said, wake).await {
                        return;
                    }
                }
                Ok(Some((KeeperSays::Answer { id, answer }, _))) => {
                    if let Some(asker) = self.waiting().1.remove(&id) {
                        // Whoever asked may have given up.
                        let _ = asker.send(answer);
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
