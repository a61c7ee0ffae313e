//! The streams of one connection: who may send how much, and when both directions are over.
//!
//! A sender starts with a window and spends it; the receiver gives back what its reader has taken.
//! So the task that reads the connection can always put data down without waiting, and memory
//! stays within a window a stream.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::net::Duplex;
use crate::spawn::Spawn;

use super::mux::Writer;
use super::wire::{Frame, Type, broken};

/// At a round trip of 140 ms this still carries 57 MB/s.
const WINDOW: usize = 8 << 20;
/// A message is charged for its place in the queue too, so that empty ones are bounded.
const OVERHEAD: usize = 64;
/// Given back in larger steps than messages; a quarter keeps the sender going meanwhile.
const CREDIT_STEP: usize = WINDOW / 4;
/// Messages that wait between a service and its stream, each way.
const QUEUE: usize = 64;
/// A node has a few per peer; beyond this somebody forgets to end them.
const STREAMS_MAX: usize = 256;

/// What a message costs of the window. At most half, so that a sender that has got back all but
/// one step can always afford it.
fn cost(body: &Bytes) -> usize {
    (body.len() + OVERHEAD).min(WINDOW / 2)
}

#[derive(Default)]
pub struct Streams {
    entries: Mutex<BTreeMap<u64, Entry>>,
}

struct Entry {
    /// Where arriving data goes; gone once the peer has ended its direction. The window bounds
    /// what waits in it.
    inbound: Option<mpsc::UnboundedSender<Bytes>>,
    /// Received and not yet given back.
    unread: usize,
    /// What we may still send.
    credit: Arc<Semaphore>,
    /// The peer reads no more.
    reset: CancellationToken,
    outbound_over: bool,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a stream's two pumps; `None` when there are too many already.
    pub fn start(
        self: &Arc<Self>,
        id: u64,
        writer: &Writer,
        spawn: &Arc<dyn Spawn>,
    ) -> Option<Duplex> {
        let (arrived_tx, arrived_rx) = mpsc::unbounded_channel();
        let (credit, reset) = (Arc::new(Semaphore::new(WINDOW)), CancellationToken::new());
        {
            let mut entries = self.lock();
            if entries.len() >= STREAMS_MAX || entries.contains_key(&id) {
                return None;
            }
            let entry = Entry {
                inbound: Some(arrived_tx),
                unread: 0,
                credit: Arc::clone(&credit),
                reset: reset.clone(),
                outbound_over: false,
            };
            entries.insert(id, entry);
        }
        let (to_reader, rx) = mpsc::channel(QUEUE);
        let (tx, from_writer) = mpsc::channel(QUEUE);
        let pump = Pump { streams: Arc::clone(self), id, writer: writer.clone() };
        spawn.spawn("framed-in", Box::pin(pump.clone().inbound(arrived_rx, to_reader)));
        spawn.spawn("framed-out", Box::pin(pump.outbound(from_writer, credit, reset)));
        Some(Duplex { tx, rx })
    }

    pub fn data(&self, id: u64, body: Bytes) -> io::Result<()> {
        let mut entries = self.lock();
        // A stream that is over here may still have data under way from there.
        let Some(entry) = entries.get_mut(&id) else { return Ok(()) };
        entry.unread += cost(&body);
        if entry.unread > WINDOW {
            return Err(broken(format!("stream {id} was sent more than its window")));
        }
        if let Some(inbound) = &entry.inbound {
            // The reader is gone: it has said so, or is about to.
            let _ = inbound.send(body);
        }
        Ok(())
    }

    /// The peer's direction is over.
    pub fn end(&self, id: u64) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&id) {
            entry.inbound = None;
            if entry.outbound_over {
                entries.remove(&id);
            }
        }
    }

    pub fn reset(&self, id: u64) {
        if let Some(entry) = self.lock().get(&id) {
            entry.reset.cancel();
        }
    }

    pub fn credit(&self, id: u64, bytes: usize) -> io::Result<()> {
        if let Some(entry) = self.lock().get(&id) {
            if entry.credit.available_permits() + bytes > WINDOW {
                return Err(broken(format!("stream {id} was given more than its window")));
            }
            entry.credit.add_permits(bytes);
        }
        Ok(())
    }

    /// The connection is gone: readers see the end, senders fail.
    pub fn close(&self) {
        for entry in std::mem::take(&mut *self.lock()).into_values() {
            entry.reset.cancel();
        }
    }

    fn outbound_over(&self, id: u64) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&id) {
            entry.outbound_over = true;
            if entry.inbound.is_none() {
                entries.remove(&id);
            }
        }
    }

    fn given_back(&self, id: u64, bytes: usize) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.unread = entry.unread.saturating_sub(bytes);
        }
    }
}

#[derive(Clone)]
struct Pump {
    streams: Arc<Streams>,
    id: u64,
    writer: Writer,
}

impl Pump {
    /// From the connection to the service.
    async fn inbound(
        self,
        mut arrived: mpsc::UnboundedReceiver<Bytes>,
        reader: mpsc::Sender<Bytes>,
    ) {
        let mut taken = 0;
        loop {
            let body = tokio::select! {
                body = arrived.recv() => body,
                // Noticed even while nothing arrives.
                () = reader.closed() => break,
            };
            let Some(body) = body else { return };
            let size = cost(&body);
            if reader.send(body).await.is_err() {
                break;
            }
            taken += size;
            if taken >= CREDIT_STEP {
                self.streams.given_back(self.id, taken);
                let bytes = u32::try_from(taken).unwrap_or(u32::MAX).to_le_bytes();
                let body = Bytes::copy_from_slice(&bytes);
                let credit = Frame::new(Type::Credit, 0, self.id, body);
                if self.writer.send(credit).await.is_err() {
                    return;
                }
                taken = 0;
            }
        }
        // What still arrives is dropped; the peer's sender stops at the next message.
        let _ = self.writer.send(Frame::bare(Type::Reset, self.id)).await;
    }

    /// From the service to the connection.
    async fn outbound(
        self,
        mut queue: mpsc::Receiver<Bytes>,
        credit: Arc<Semaphore>,
        reset: CancellationToken,
    ) {
        let send_all = async {
            while let Some(body) = queue.recv().await {
                let Ok(size) = u32::try_from(cost(&body)) else { return };
                match credit.acquire_many(size).await {
                    Ok(spent) => spent.forget(),
                    Err(_) => return,
                }
                let data = Frame::new(Type::Data, 0, self.id, body);
                if self.writer.send(data).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = send_all => {}
            () = reset.cancelled() => {}
        }
        // From here the service's next send fails.
        drop(queue);
        let _ = self.writer.send(Frame::bare(Type::End, self.id)).await;
        self.streams.outbound_over(self.id);
    }
}
