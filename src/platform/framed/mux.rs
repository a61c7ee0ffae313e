//! One connection, from either side: a task that writes, a task that reads, and what they share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::{CallError, Duplex, Peer, Service};
use crate::spawn::Spawn;

use super::streams::Streams;
use super::wire::{Frame, FrameReader, Type, broken};
use super::{FRAME_BYTES_MAX, Timing};

/// Frames and bytes that wait to be written. Whatever is new waits behind them, so the bytes are
/// few: 2 MiB take 0.2 s at 10 MB/s.
const WRITE_FRAMES_MAX: usize = 1024;
const WRITE_BYTES_MAX: usize = 2 << 20;
/// Enough for one write to fill many TLS records.
const FLUSH_BYTES: usize = 256 << 10;
/// Calls under way on one connection.
pub const CALLS_MAX: usize = 1024;
/// So many calls in a row went unanswered while nothing else was heard either.
const TIMEOUTS_IN_A_ROW: u32 = 3;

/// Where frames are put to be written.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

enum Queued {
    Frame(Frame, OwnedSemaphorePermit),
    /// Told once everything before it was written.
    Flush(oneshot::Sender<()>),
}

/// The connection is gone.
#[derive(Debug)]
pub struct Gone;

impl Writer {
    fn cost(frame: &Frame) -> u32 {
        u32::try_from(frame.body.len().clamp(1, WRITE_BYTES_MAX)).unwrap_or(1)
    }

    pub async fn send(&self, frame: Frame) -> Result<(), Gone> {
        let room = Arc::clone(&self.bytes).acquire_many_owned(Self::cost(&frame)).await;
        let room = room.map_err(|_| Gone)?;
        self.queue.send(Queued::Frame(frame, room)).await.map_err(|_| Gone)
    }

    /// Returns once everything queued so far was written.
    pub async fn flushed(&self) -> Result<(), Gone> {
        let (done, written) = oneshot::channel();
        self.queue.send(Queued::Flush(done)).await.map_err(|_| Gone)?;
        written.await.map_err(|_| Gone)
    }

    /// For the reading task, which never waits. A full queue drops the frame.
    fn try_send(&self, frame: Frame) {
        if let Ok(room) = Arc::clone(&self.bytes).try_acquire_many_owned(Self::cost(&frame)) {
            let _ = self.queue.try_send(Queued::Frame(frame, room));
        }
    }
}

/// What a connection is for.
pub enum Role {
    Client,
    Server { peer: Peer, service: Arc<dyn Service>, running: TaskTracker },
}

type Waiting = oneshot::Sender<Result<Bytes, String>>;

pub struct Mux {
    writer: Writer,
    streams: Arc<Streams>,
    calls: Mutex<BTreeMap<u64, Waiting>>,
    free_calls: Arc<Semaphore>,
    next_id: AtomicU64,
    timeouts_in_a_row: AtomicU32,
    spawn: Arc<dyn Spawn>,
    timing: Timing,
    started: Instant,
    /// When the last frame came, in ms since `started`.
    heard_ms: AtomicU64,
    /// The ping that is out, and when it left.
    ping: Mutex<Option<(u64, Instant)>>,
    /// 0 before the first.
    rtt_us: AtomicU64,
    /// Nothing can be sent or received any more.
    pub closed: CancellationToken,
    /// The server asked that nothing new be sent here.
    pub retired: CancellationToken,
    why: Mutex<Option<String>>,
}

impl Mux {
    /// Takes over a connection and serves it in tasks of its own until it closes.
    pub fn start<R, W>(
        reader: FrameReader<R>,
        write: W,
        role: Role,
        timing: Timing,
        spawn: &Arc<dyn Spawn>,
    ) -> Arc<Mux>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (queue, queued) = mpsc::channel(WRITE_FRAMES_MAX);
        let writer = Writer { queue, bytes: Arc::new(Semaphore::new(WRITE_BYTES_MAX)) };
        let mux = Arc::new(Mux {
            writer,
            streams: Arc::default(),
            calls: Mutex::default(),
            free_calls: Arc::new(Semaphore::new(CALLS_MAX)),
            next_id: AtomicU64::new(1),
            timeouts_in_a_row: AtomicU32::new(0),
            spawn: Arc::clone(spawn),
            timing,
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            ping: Mutex::default(),
            rtt_us: AtomicU64::new(0),
            closed: CancellationToken::new(),
            retired: CancellationToken::new(),
            why: Mutex::default(),
        });
        let is_client = matches!(role, Role::Client);
        let writing = Arc::clone(&mux);
        spawn.spawn(
            "framed-write",
            Box::pin(async move {
                let done = tokio::select! {
                    done = write_all(write, queued) => done,
                    () = writing.closed.cancelled() => Ok(()),
                };
                writing.close(done.err().map_or_else(|| "closed".into(), |e| e.to_string()));
            }),
        );
        let reading = Arc::clone(&mux);
        spawn.spawn(
            "framed-read",
            Box::pin(async move {
                let done = tokio::select! {
                    done = reading.read_all(reader, role) => done,
                    () = reading.closed.cancelled() => Ok(()),
                };
                reading
                    .close(done.err().map_or_else(|| "closed by peer".into(), |e| e.to_string()));
            }),
        );
        let watching = Arc::clone(&mux);
        spawn.spawn(
            "framed-watch",
            Box::pin(async move {
                tokio::select! {
                    () = watching.keep_alive(is_client) => {}
                    () = watching.closed.cancelled() => {}
                }
            }),
        );
        mux
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    /// Why the connection was closed.
    pub fn why(&self) -> String {
        lock(&self.why).clone().unwrap_or_default()
    }

    /// The first reason given is the one that is kept.
    pub fn close(&self, why: String) {
        lock(&self.why).get_or_insert(why);
        self.closed.cancel();
        self.writer.bytes.close();
        self.free_calls.close();
        self.streams.close();
        // Dropping the senders tells those who wait.
        lock(&self.calls).clear();
    }

    /// Closes once no call of ours is under way, after `within` at the latest.
    pub async fn finish(&self, within: Duration) {
        let all = u32::try_from(CALLS_MAX).unwrap_or(u32::MAX);
        // Taking every permit means that nobody else holds one.
        let _ = tokio::time::timeout(within, self.free_calls.acquire_many(all)).await;
        self.close("replaced".to_owned());
    }

    pub async fn call(&self, kind: u8, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
        if body.len() > FRAME_BYTES_MAX {
            return Err(CallError::Refused(format!("{} bytes are too large", body.len())));
        }
        let free = timeout_at(deadline, Arc::clone(&self.free_calls).acquire_owned()).await;
        // Nothing was sent: either there was no room in time, or the connection closed.
        let Ok(Ok(_under_way)) = free else { return Err(CallError::Unreachable) };

        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (done, answer) = oneshot::channel();
        lock(&self.calls).insert(id, done);
        let _forget = Forget { mux: self, id };
        if self.closed.is_cancelled() {
            return Err(CallError::Unreachable);
        }
        match timeout_at(deadline, self.writer.send(Frame::new(Type::Call, kind, id, body))).await {
            Ok(Ok(())) => {}
            Ok(Err(Gone)) | Err(_) => return Err(CallError::Unreachable),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(Ok(body))) => Ok(body),
            Ok(Ok(Err(reason))) => Err(CallError::Refused(reason)),
            Ok(Err(_)) => Err(CallError::TimedOut),
            Err(_) => {
                self.missed_an_answer();
                Err(CallError::TimedOut)
            }
        }
    }

    pub async fn open(&self, kind: u8) -> Result<Duplex, CallError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let duplex = self.streams.start(id, &self.writer, &self.spawn);
        let duplex = duplex.ok_or(CallError::Unreachable)?;
        // The pumps may not overtake this: nothing of theirs exists before we return.
        let open = Frame::new(Type::Open, kind, id, Bytes::new());
        self.writer.send(open).await.map_err(|Gone| CallError::Unreachable)?;
        Ok(duplex)
    }

    /// A slow service still answers pings; a path that leads nowhere does not.
    fn missed_an_answer(&self) {
        let missed = self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if missed >= TIMEOUTS_IN_A_ROW && self.silence() > self.timing.ping * 2 {
            self.close(format!("{missed} calls in a row went unanswered, and pings too"));
        }
    }

    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(heard)
    }

    async fn read_all<R: AsyncRead + Unpin>(
        &self,
        mut reader: FrameReader<R>,
        role: Role,
    ) -> io::Result<()> {
        while let Some(frame) = reader.next().await? {
            self.heard();
            self.take(frame, &role)?;
        }
        Ok(())
    }

    fn heard(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(ms, Ordering::Relaxed);
    }

    /// One frame that came. Never waits.
    fn take(&self, frame: Frame, role: &Role) -> io::Result<()> {
        let Frame { typ, kind, id, mut body } = frame;
        match (typ, role) {
            (Type::Call, Role::Server { peer, service, running }) => {
                self.serve_call(kind, id, body, peer, service, running);
            }
            (Type::Open, Role::Server { peer, service, running }) => {
                let Some(duplex) = self.streams.start(id, &self.writer, &self.spawn) else {
                    self.writer.try_send(Frame::bare(Type::Reset, id));
                    self.writer.try_send(Frame::bare(Type::End, id));
                    return Ok(());
                };
                let (peer, service) = (peer.clone(), Arc::clone(service));
                let serve = async move { service.stream(&peer, kind, duplex).await };
                self.spawn.spawn("framed-stream", Box::pin(running.track_future(serve)));
            }
            (Type::Answer | Type::Refusal, Role::Client) => {
                self.timeouts_in_a_row.store(0, Ordering::Relaxed);
                // Nobody waits for an answer that comes too late.
                if let Some(waiting) = lock(&self.calls).remove(&id) {
                    let _ = waiting.send(match typ {
                        Type::Answer => Ok(body),
                        _ => Err(String::from_utf8_lossy(&body).into_owned()),
                    });
                }
            }
            (Type::Bye, Role::Client) => self.retired.cancel(),
            (Type::Data, _) => self.streams.data(id, body)?,
            (Type::End, _) => self.streams.end(id),
            (Type::Reset, _) => self.streams.reset(id),
            (Type::Credit, _) if body.len() == 4 => {
                self.streams.credit(id, body.get_u32_le() as usize)?;
            }
            (Type::Ping, _) => self.writer.try_send(Frame::bare(Type::Pong, id)),
            (Type::Pong, _) => self.pong(id),
            (unexpected, _) => {
                return Err(broken(format!("a {unexpected:?} frame has no place here")));
            }
        }
        Ok(())
    }

    fn serve_call(
        &self,
        kind: u8,
        id: u64,
        body: Bytes,
        peer: &Peer,
        service: &Arc<dyn Service>,
        running: &TaskTracker,
    ) {
        let Ok(under_way) = Arc::clone(&self.free_calls).try_acquire_owned() else {
            let reason = Bytes::from_static(b"too many calls under way");
            self.writer.try_send(Frame::new(Type::Refusal, kind, id, reason));
            return;
        };
        let (peer, service, writer) = (peer.clone(), Arc::clone(service), self.writer.clone());
        let answer = async move {
            let frame = match service.call(&peer, kind, body).await {
                Ok(body) if body.len() > FRAME_BYTES_MAX => {
                    let reason = format!("the answer has {} bytes, too many", body.len());
                    Frame::new(Type::Refusal, kind, id, reason.into())
                }
                Ok(body) => Frame::new(Type::Answer, kind, id, body),
                Err(error) => Frame::new(Type::Refusal, kind, id, error.0.into()),
            };
            // Whoever asked is gone when this fails.
            let _ = writer.send(frame).await;
            drop(under_way);
        };
        self.spawn.spawn("framed-call", Box::pin(running.track_future(answer)));
    }

    fn pong(&self, id: u64) {
        let mut ping = lock(&self.ping);
        if let Some((_, left)) = ping.take_if(|(out, _)| *out == id) {
            let us = u64::try_from(left.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
            self.rtt_us.store(us, Ordering::Relaxed);
        }
    }

    /// Pings (clients) and gives up on silence (both).
    async fn keep_alive(&self, is_client: bool) {
        let silent = if is_client { self.timing.silent } else { self.timing.silent * 3 };
        let mut tick = tokio::time::interval(self.timing.ping);
        for number in 0.. {
            tick.tick().await;
            if self.silence() > silent {
                return self.close(format!("silent for {} ms", silent.as_millis()));
            }
            if is_client {
                // Stamped when it is queued: what waits before it is part of the round trip.
                *lock(&self.ping) = Some((number, Instant::now()));
                self.writer.try_send(Frame::bare(Type::Ping, number));
            }
        }
    }
}

/// A call that nobody waits for any more leaves nothing behind.
struct Forget<'a> {
    mux: &'a Mux,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.mux.calls).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is queued, all that is there in one go.
async fn write_all<W: AsyncWrite + Unpin>(
    mut io: W,
    mut queued: mpsc::Receiver<Queued>,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(FLUSH_BYTES);
    let mut flushed = Vec::new();
    while let Some(first) = queued.recv().await {
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Queued::Frame(frame, _room) => frame.put(&mut buffer),
                Queued::Flush(done) => flushed.push(done),
            }
            next = if buffer.len() < FLUSH_BYTES { queued.try_recv().ok() } else { None };
        }
        io.write_all(&buffer).await?;
        io.flush().await?;
        for done in flushed.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
        buffer.clear();
        if buffer.capacity() > 4 * FLUSH_BYTES {
            // One large message must not keep its size for good.
            buffer = BytesMut::with_capacity(FLUSH_BYTES);
        }
    }
    io.shutdown().await
}
