//! Tasks of one life of one process: they can be frozen together, and end together.

use cryptorun_platform::spawn::{Spawn, Task};
use futures_util::future::BoxFuture;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::task::AbortHandle;

/// What the tasks of one life share.
#[derive(Default)]
pub(crate) struct Life {
    frozen: AtomicBool,
    /// Polls that had to wait: what a freeze changed.
    held: AtomicU64,
    /// The one task that stands still by itself, by name.
    stuck: Mutex<Option<&'static str>>,
    waiting: Mutex<Vec<Waker>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Life {
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    /// One task hangs while the others go on.
    pub fn freeze_one(&self, task: &'static str) {
        *lock(&self.stuck) = Some(task);
    }

    /// Goes on; how much had been held up.
    pub fn thaw(&self) -> u64 {
        self.frozen.store(false, Ordering::Relaxed);
        *lock(&self.stuck) = None;
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
        self.held.swap(0, Ordering::Relaxed)
    }

    /// As `kill -9`: no task takes another step.
    pub fn end(&self) {
        for task in std::mem::take(&mut *lock(&self.tasks)) {
            task.abort();
        }
    }
}

/// Starts tasks of a life, on the world's randomness.
pub(crate) struct SimSpawn(pub Arc<Life>);

impl Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        let gated = Gated { name, task, life: self.0.clone() };
        let handle = cryptorun_raft::runtime::spawn(gated);
        let mut tasks = lock(&self.0.tasks);
        if tasks.len() > 256 {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(handle.abort_handle());
        drop(tasks);
        handle.into()
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, bool> {
        work();
        Box::pin(std::future::ready(true))
    }
}

struct Gated {
    name: &'static str,
    task: BoxFuture<'static, ()>,
    life: Arc<Life>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let stuck = || *lock(&self.life.stuck) == Some(self.name);
        if self.life.frozen.load(Ordering::Relaxed) || stuck() {
            self.life.held.fetch_add(1, Ordering::Relaxed);
            lock(&self.life.waiting).push(context.waker().clone());
            return Poll::Pending;
        }
        self.task.as_mut().poll(context)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
