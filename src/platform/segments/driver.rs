//! Who writes when: the queue, the one who empties it, and what everybody may know meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::error::{Doing, Failed};
use super::format::{MAX_KIND, Owner, file_name};
use super::recover::{Recovered, Segment};
use super::space::{RETRY, Space};
use super::spare::Spares;
use super::writer::{Writer, Written, record_bytes};
use super::{
    Done, Driver, Failure, MAX_QUEUED, MAX_RECORD, OpenError, Placed, Position, Settings, SyncDelay,
};
use crate::disk::{BLOCK, Disk};

/// Lazy records beyond this are written without being asked for.
const MAX_LAZY: usize = 1 << 20;
/// Above this, [`Shared::room`] waits: two batches, so that the writer never runs dry.
const ROOM: usize = 8 << 20;

/// What handles and the writer have in common.
pub struct Shared {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub owner: Owner,
    queue: Mutex<Queue>,
    /// For a writer that is a thread.
    work: Condvar,
    /// For a writer that is a task.
    work_for_task: Notify,
    drained: Notify,
    view: Mutex<View>,
    state: watch::Sender<State>,
    pub space: Arc<Space>,
    removing: Mutex<()>,
}

/// What is on the medium.
pub struct View {
    pub segments: BTreeMap<u64, Segment>,
    /// Where the last batch on it ends.
    pub end: Position,
}

impl View {
    pub fn first(&self) -> u64 {
        self.segments.keys().next().copied().unwrap_or(self.end.segment)
    }
}

#[derive(Clone, Default)]
struct State {
    failure: Option<Failure>,
    /// The writer has ended and let go of the directory.
    gone: bool,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Somebody waits for a sync.
    wanted: bool,
    closing: bool,
    /// No item gets in any more.
    stopped: bool,
}

struct Item {
    /// None for a mere wait.
    record: Option<(u8, Vec<u8>)>,
    then: Option<Then>,
}

/// Whom to tell.
pub enum Then {
    Done(Done),
    Placed(Placed),
}

impl Then {
    fn call(self, result: io::Result<Position>) {
        match self {
            Self::Done(done) => done(result.map(drop)),
            Self::Placed(placed) => placed(result),
        }
    }
}

/// What the writer does next.
enum Next {
    Write(Vec<Item>),
    Wait,
    End,
}

pub fn start(
    mut recovered: Recovered,
    mut settings: Settings,
    driver: Driver,
) -> Result<Arc<Shared>, OpenError> {
    settings.segment_bytes = settings.segment_bytes.max(1).next_multiple_of(BLOCK);
    let (disk, dir, owner) = (recovered.disk.clone(), recovered.dir.clone(), settings.owner);
    let segments = std::mem::take(&mut recovered.segments);
    let size = settings.segment_bytes;
    let space = Arc::new(Space::new(disk.clone(), dir.clone(), size));
    let spares = match driver {
        Driver::Thread => Spares::ahead(disk.clone(), dir.clone(), size, space.clone()).doing(
            disk.as_ref(),
            "start a thread for",
            &dir,
        )?,
        Driver::Task { .. } => Spares::inline(disk.clone(), dir.clone(), size, space.clone()),
    };
    let (writer, founded) = Writer::new(recovered, settings, spares)?;
    let mut view = View { segments, end: Position::default() };
    view.segments.extend(founded.map(|segment| (0, segment)));
    let mut newest = view.segments.iter().rev();
    let last = newest.find(|(_, state)| state.has_records).or(view.segments.first_key_value());
    if let Some((&segment, state)) = last {
        view.end = Position { segment, offset: state.end };
    }
    let shared = Arc::new(Shared {
        disk,
        dir,
        owner,
        queue: Mutex::default(),
        work: Condvar::new(),
        work_for_task: Notify::new(),
        drained: Notify::new(),
        view: Mutex::new(view),
        state: watch::Sender::new(State::default()),
        space,
        removing: Mutex::new(()),
    });
    let running = Running { writer, shared: Gone(shared.clone()) };
    match driver {
        Driver::Thread => {
            let run = move || run_thread(running);
            let started = std::thread::Builder::new().name("segments".into()).spawn(run);
            started.doing(shared.disk.as_ref(), "start a thread for", &shared.dir)?;
        }
        Driver::Task { spawn, sync_delay } => {
            spawn.spawn("segments", Box::pin(run_task(running, sync_delay)));
        }
    }
    Ok(shared)
}

/// A writer at work. Dropped in this order, from wherever: a task may never be polled.
struct Running {
    writer: Writer,
    shared: Gone,
}

/// Says that the writer has ended, however it did.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        if !lock(&self.0.queue).stopped {
            let source = io::Error::other("its writer was ended");
            let path = self.0.disk.show(&self.0.dir);
            self.0.fail(Failed { action: "go on with", path, source });
        }
        self.0.state.send_modify(|state| state.gone = true);
    }
}

fn run_thread(mut running: Running) {
    let Running { writer, shared: Gone(shared) } = &mut running;
    while let Some(items) = shared.wait(writer.batch_bytes()) {
        let result = loop {
            match write(writer, &items) {
                Ok(Some(written)) => break writer.sync(&written).map(|()| Some(written)),
                Err(failed) if failed.can_wait() => {
                    shared.space.short(&failed);
                    if !shared.wait_for_space() {
                        break Err(failed);
                    }
                }
                other => break other,
            }
        };
        shared.settle(items, result);
    }
    shared.end(writer);
}

async fn run_task(mut running: Running, sync_delay: SyncDelay) {
    let Running { writer, shared: Gone(shared) } = &mut running;
    loop {
        match shared.next(writer.batch_bytes()) {
            Next::Write(items) => {
                let result = loop {
                    match write(writer, &items) {
                        Ok(Some(written)) => {
                            pause(sync_delay()).await;
                            break writer.sync(&written).map(|()| Some(written));
                        }
                        Err(failed) if failed.can_wait() => {
                            shared.space.short(&failed);
                            if !shared.wait_for_space_in_task().await {
                                break Err(failed);
                            }
                        }
                        other => break other,
                    }
                };
                shared.settle(items, result);
            }
            Next::Wait if writer.prepare() => shared.work_for_task.notified().await,
            Next::Wait => {
                let woken = shared.work_for_task.notified();
                drop(tokio::time::timeout(RETRY, woken).await);
            }
            Next::End => break,
        }
    }
    shared.end(writer);
}

/// Lets others run between write and sync, so that a crash can come there.
async fn pause(delay: Duration) {
    if delay.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(delay).await;
    }
}

fn write(writer: &mut Writer, items: &[Item]) -> Result<Option<Written>, Failed> {
    let records = items.iter().filter_map(|item| item.record.as_ref());
    writer.write(records.map(|(kind, body)| (*kind, body.as_slice())))
}

impl Shared {
    pub fn append(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>), then: Option<Then>) {
        assert!(kind <= MAX_KIND, "kind {kind} is reserved");
        let mut body = Vec::new();
        fill(&mut body);
        if body.len() > MAX_RECORD {
            let Some(then) = then else { panic!("a lazy record of {} bytes", body.len()) };
            let error = format!("record of {} bytes, at most {MAX_RECORD} are kept", body.len());
            return then.call(Err(io::Error::new(io::ErrorKind::InvalidInput, error)));
        }
        self.push(Item { record: Some((kind, body)), then });
    }

    pub fn flush(&self, done: Done) {
        self.push(Item { record: None, then: Some(Then::Done(done)) });
    }

    fn push(&self, item: Item) {
        let mut queue = lock(&self.queue);
        if queue.stopped || queue.closing {
            drop(queue);
            if let Some(then) = item.then {
                then.call(Err(self.stopped()));
            }
            return;
        }
        queue.bytes += item.bytes();
        let too_much = queue.bytes > MAX_QUEUED;
        if item.then.is_some() || queue.bytes > MAX_LAZY {
            queue.wanted = true;
        }
        let wanted = queue.wanted;
        queue.items.push_back(item);
        drop(queue);
        if too_much {
            let source = io::Error::new(io::ErrorKind::TimedOut, "the queue is full");
            self.fail(Failed { action: "keep up in", path: self.disk.show(&self.dir), source });
        } else if wanted {
            self.wake();
        }
    }

    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if lock(&self.queue).has_room() {
                return;
            }
            drained.await;
        }
    }

    pub fn start_closing(&self) {
        lock(&self.queue).closing = true;
        self.wake();
    }

    pub async fn closed(&self) -> io::Result<()> {
        match self.once(|state| state.gone).await.failure {
            Some(failure) => Err(failure.to_io()),
            None => Ok(()),
        }
    }

    pub async fn failed(&self) -> Failure {
        match self.once(|state| state.failure.is_some()).await.failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// The error for whoever comes too late.
    pub fn stopped(&self) -> io::Error {
        match &self.state.borrow().failure {
            Some(failure) => failure.to_io(),
            None => io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed"),
        }
    }

    pub fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    pub fn remove_segments_below(&self, below: u64) -> io::Result<u64> {
        let _one = lock(&self.removing);
        let mut removed = 0;
        loop {
            let (first, last) = {
                let view = self.view();
                (view.first(), below.min(view.end.segment))
            };
            if first >= last {
                return Ok(removed);
            }
            match self.disk.remove(&self.dir.join(file_name(first))) {
                // Removed before, when the sync of the directory failed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            self.disk.sync_dir(&self.dir)?;
            self.view().segments.remove(&first);
            removed += 1;
        }
    }

    fn once(&self, what: impl Fn(&State) -> bool) -> impl Future<Output = State> {
        let mut states = self.state.subscribe();
        async move {
            // The sender is `self`, whom the caller holds: the error cannot be.
            states.wait_for(what).await.map(|state| state.clone()).unwrap_or_default()
        }
    }

    fn wake(&self) {
        self.work.notify_one();
        self.work_for_task.notify_one();
    }

    fn next(&self, limit: usize) -> Next {
        lock(&self.queue).next(limit)
    }

    fn wait(&self, limit: usize) -> Option<Vec<Item>> {
        let mut queue = lock(&self.queue);
        loop {
            match queue.next(limit) {
                Next::Write(items) => return Some(items),
                Next::End => return None,
                Next::Wait => {
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// False when the log is to end and not to wait.
    fn wait_for_space(&self) -> bool {
        let queue = lock(&self.queue);
        let waited = self.work.wait_timeout_while(queue, RETRY, |queue| !queue.is_ending());
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !queue.is_ending()
    }

    async fn wait_for_space_in_task(&self) -> bool {
        let ended = async {
            loop {
                let woken = self.work_for_task.notified();
                if lock(&self.queue).is_ending() {
                    return;
                }
                woken.await;
            }
        };
        tokio::time::timeout(RETRY, ended).await.is_err()
    }

    /// Tells everybody how their batch went, in order.
    fn settle(&self, items: Vec<Item>, result: Result<Option<Written>, Failed>) {
        let places = match result {
            Ok(Some(written)) => {
                let mut view = self.view();
                view.segments.insert(written.segment, written.state);
                view.end = Position { segment: written.segment, offset: written.state.end };
                written.places
            }
            Ok(None) => Vec::new(),
            Err(failed) => {
                self.fail_with(failed, items);
                return;
            }
        };
        self.drained.notify_waiters();
        let mut places = places.into_iter();
        for item in items {
            let place = if item.record.is_some() { places.next() } else { None };
            if let Some(then) = item.then {
                then.call(Ok(place.unwrap_or_default()));
            }
        }
    }

    fn fail(&self, failed: Failed) {
        self.fail_with(failed, Vec::new());
    }

    /// Stops the log for good; `items` were being written.
    fn fail_with(&self, failed: Failed, items: Vec<Item>) {
        let failure = Failure::from(failed);
        let first = self.state.send_if_modified(|state| {
            let first = state.failure.is_none();
            state.failure.get_or_insert_with(|| failure.clone());
            first
        });
        if first {
            let (cause, path) = (&failure.source, failure.path.display());
            tracing::error!(%path, action = failure.action, %cause, "log stopped");
        }
        let waiting = lock(&self.queue).stop();
        self.drained.notify_waiters();
        self.wake();
        for then in items.into_iter().chain(waiting).filter_map(|item| item.then) {
            then.call(Err(self.stopped()));
        }
    }

    /// The writer has nothing more to do.
    fn end(&self, writer: &mut Writer) {
        let failed = self.state.borrow().failure.is_some();
        if !failed && let Err(failed) = writer.seal() {
            self.fail(failed);
        }
        lock(&self.queue).stop();
    }
}

impl Item {
    fn bytes(&self) -> usize {
        self.record.as_ref().map_or(0, |(_, body)| record_bytes(body.len()))
    }
}

impl Queue {
    fn next(&mut self, limit: usize) -> Next {
        if self.stopped {
            return Next::End;
        }
        if !self.wanted && !self.closing {
            return Next::Wait;
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some(item) = self.items.front()
            && (items.is_empty() || bytes + item.bytes() <= limit)
        {
            bytes += item.bytes();
            items.extend(self.items.pop_front());
        }
        self.bytes -= bytes;
        self.wanted = !self.items.is_empty();
        match items.is_empty() {
            false => Next::Write(items),
            true if self.closing => Next::End,
            true => Next::Wait,
        }
    }

    fn is_ending(&self) -> bool {
        self.closing || self.stopped
    }

    fn has_room(&self) -> bool {
        self.bytes < ROOM || self.stopped
    }

    fn stop(&mut self) -> VecDeque<Item> {
        self.stopped = true;
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
