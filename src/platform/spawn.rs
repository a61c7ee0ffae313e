//! How tasks are started: by tokio in production, by the simulator inside its seeded scope.

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

pub trait Spawn: Send + Sync + 'static {
    /// `name` is for whoever looks at a stuck process; it is not an identity.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Task;

    /// Runs work that waits for a disk or a lock where it holds nobody up: on a thread of its own.
    /// The simulator does it in place, since threads end in no order. False when it did not end.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, bool> {
        let running = tokio::task::spawn_blocking(work);
        Box::pin(async move { running.await.is_ok() })
    }
}

/// A running task. Dropping it lets the task run on.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    pub fn abort(&self) {
        self.0.abort();
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end, however it comes. True when it came by itself: not aborted, no panic.
    pub async fn join(self) -> bool {
        self.0.await.is_ok()
    }
}

impl From<JoinHandle<()>> for Task {
    fn from(handle: JoinHandle<()>) -> Self {
        Self(handle)
    }
}

/// On the tokio runtime of whoever calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        tokio::spawn(task).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_aborted_task_did_not_end_by_itself() {
        let spawn = TokioSpawn;
        let stuck = spawn.spawn("stuck", Box::pin(std::future::pending()));
        assert!(!stuck.is_finished());
        stuck.abort();
        assert!(!stuck.join().await);
        assert!(spawn.spawn("brief", Box::pin(async {})).join().await);
    }
}
