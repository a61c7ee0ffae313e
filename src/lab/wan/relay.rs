//! One connection over a link: two pumps, each moving bytes one way as late as the path says.
//!
//! What always holds: bytes arrive in order, none twice and none missing; while a direction is cut
//! nothing arrives in it, neither a byte nor the news that the sender closed or died; what was sent
//! meanwhile arrives one delay after the heal. A sender that outruns the hold buffer is slowed by
//! its own full socket, as by a closed TCP window.

use super::path::Path;
use super::timer::Timer;
use bytes::{Bytes, BytesMut};
use cryptorun_platform::clock::BootTime;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Pieces under way in one direction of one connection; their bytes are bounded besides.
const PIECES_MAX: usize = 8_192;
/// Read at once at most.
const READ_MAX: usize = 64 * 1024;
/// A new read buffer is taken when less than this is left of the old one.
const READ_MIN: usize = 4 * 1024;

/// The two directions of a link as a connection sees them.
#[derive(Clone)]
pub struct Way {
    /// From the region that connects to the region that listens.
    pub there: Arc<Path>,
    pub back: Arc<Path>,
}

struct Piece {
    due: BootTime,
    what: What,
    _room: Option<OwnedSemaphorePermit>,
}

enum What {
    Bytes(Bytes),
    /// The sender closed its side.
    End,
    /// The sender is gone.
    Reset,
}

/// Carries an accepted connection until both sides are done or `stop`.
pub async fn carry(
    near: TcpStream,
    target: SocketAddr,
    way: Way,
    hold_bytes: usize,
    stop: CancellationToken,
) {
    let _counted = Counted::new(way.there.clone());
    let dead = stop.child_token();
    let carried = try_carry(near, target, way, hold_bytes, dead.clone());
    tokio::select! {
        () = stop.cancelled() => {}
        result = carried => if let Err(error) = result {
            tracing::warn!(%target, %error, "connection given up");
        }
    }
    dead.cancel();
}

async fn try_carry(
    near: TcpStream,
    target: SocketAddr,
    way: Way,
    hold_bytes: usize,
    dead: CancellationToken,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    let mut timer = Timer::new()?;
    let accepted = way.there.now();
    let (near_read, near_write) = near.into_split();
    // What the client sends at once left only after the handshake had come back.
    let earliest = accepted + way.there.delay() + way.back.delay() + way.there.delay();
    let (to_far, for_far) = mpsc::channel(PIECES_MAX);
    let ended = CancellationToken::new();
    let collecting = tokio::spawn(guarded(
        collect(near_read, to_far, way.there.clone(), earliest, hold_bytes, ended.clone()),
        dead.clone(),
    ));
    tokio::select! {
        arrived = arrive(&way.there, &mut timer, accepted + way.there.delay()) => arrived?,
        // Given up by the client before its first packet got through: nobody learns of it.
        () = given_up(&ended, &way.there) => {
            collecting.abort();
            return Ok(());
        }
    }
    let far = match TcpStream::connect(target).await {
        Ok(far) => Some(far),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
        Err(error) => return Err(error),
    };
    arrive(&way.back, &mut timer, way.back.now() + way.back.delay()).await?;
    let Some(far) = far else {
        collecting.abort();
        return reset(near_write); // As the target did.
    };
    far.set_nodelay(true)?;
    let (far_read, far_write) = far.into_split();
    let (to_near, for_near) = mpsc::channel(PIECES_MAX);
    let back_timer = Timer::new()?;
    let back = way.back.clone();
    let start = BootTime::default();
    tokio::join!(
        async {
            let _ = collecting.await;
        },
        guarded(
            collect(far_read, to_near, back.clone(), start, hold_bytes, CancellationToken::new()),
            dead.clone()
        ),
        guarded(deliver(for_far, far_write, way.there.clone(), timer, dead.clone()), dead.clone()),
        guarded(deliver(for_near, near_write, back, back_timer, dead.clone()), dead.clone()),
    );
    Ok(())
}

async fn given_up(ended: &CancellationToken, there: &Path) {
    ended.cancelled().await;
    if !there.is_cut() {
        std::future::pending::<()>().await;
    }
}

/// Waits until something due at `due` is at the end of `path`: later if that is cut.
async fn arrive(path: &Path, timer: &mut Timer, mut due: BootTime) -> io::Result<()> {
    loop {
        timer.sleep(due - path.now()).await?;
        if !path.is_cut() {
            return Ok(());
        }
        due = path.open().await + path.delay();
    }
}

async fn collect(
    mut from: OwnedReadHalf,
    to: mpsc::Sender<Piece>,
    path: Arc<Path>,
    earliest: BootTime,
    hold_bytes: usize,
    ended: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(hold_bytes.clamp(READ_MAX, Semaphore::MAX_PERMITS)));
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() - buffer.len() < READ_MIN {
            buffer.reserve(READ_MAX);
        }
        let what = match from.read_buf(&mut buffer).await {
            Ok(0) => What::End,
            Ok(_) => What::Bytes(buffer.split().freeze()),
            Err(_) => What::Reset,
        };
        let (taken, last) = match &what {
            What::Bytes(bytes) => (bytes.len(), false),
            What::End | What::Reset => (0, true),
        };
        let due = path.due(taken).max(earliest);
        path.held.fetch_add(taken as u64, Ordering::Relaxed);
        // Read at most READ_MAX at once, so it fits into the room there can be.
        let permits = u32::try_from(taken).unwrap_or(u32::MAX);
        let Ok(room) = room.clone().acquire_many_owned(permits).await else { return };
        let held = taken as u64;
        if to.send(Piece { due, what, _room: Some(room) }).await.is_err() {
            path.held.fetch_sub(held, Ordering::Relaxed);
            return;
        }
        if last {
            ended.cancel();
            return;
        }
    }
}

async fn deliver(
    mut pieces: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    path: Arc<Path>,
    mut timer: Timer,
    dead: CancellationToken,
) {
    let held = Held { path: path.clone(), rest: &mut pieces };
    while let Some(piece) = held.rest.recv().await {
        if let Err(error) = arrive(&path, &mut timer, piece.due).await {
            tracing::warn!(link = path.id(), %error, "cannot keep time");
            dead.cancel();
            return;
        }
        match piece.what {
            What::Bytes(bytes) => {
                path.held.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                if to.write_all(&bytes).await.is_err() {
                    return; // The receiver is gone; the other pump brings that back.
                }
                path.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            What::End => {
                let _ = to.shutdown().await;
                return;
            }
            What::Reset => {
                let _ = reset(to);
                dead.cancel();
                return;
            }
        }
    }
}

/// Makes the socket answer with a reset, once its reading half is dropped too, instead of closing.
fn reset(half: OwnedWriteHalf) -> io::Result<()> {
    let lingers = half.as_ref().set_zero_linger();
    half.forget();
    lingers
}

/// Gives back the count of what was still under way when a connection ends.
struct Held<'a> {
    path: Arc<Path>,
    rest: &'a mut mpsc::Receiver<Piece>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.rest.close();
        while let Ok(piece) = self.rest.try_recv() {
            if let What::Bytes(bytes) = piece.what {
                self.path.held.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

async fn guarded(pump: impl Future<Output = ()>, dead: CancellationToken) {
    tokio::select! {
        () = dead.cancelled() => {}
        () = pump => {}
    }
}

/// Counts a connection while it lives.
struct Counted(Arc<Path>);

impl Counted {
    fn new(path: Arc<Path>) -> Self {
        path.connections.fetch_add(1, Ordering::Relaxed);
        Self(path)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
