//! The one thread from which children are started.
//!
//! A child may ask the kernel to be killed when its parent dies ([`die_with_parent`]); what the
//! kernel watches is the *thread* that started it. So that thread must live as long as the
//! supervisor, and no runtime promises that of its own threads.

use rustix::process::{
    Pid, Signal, getpid, getppid, set_parent_process_death_signal, test_kill_process,
};
use std::io;
use std::sync::mpsc;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Carries the supervisor's pid to a child that may want to die with it.
pub const PARENT_VARIABLE: &str = "CRYPTORUN_SUPERVISED_BY";

/// Starts waiting at once.
const LAUNCHES_MAX: usize = 64;

#[derive(Clone)]
pub struct Launcher(mpsc::SyncSender<Launch>);

struct Launch {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

impl Launcher {
    /// The thread ends when the last clone is dropped. Must be called on a runtime.
    pub fn start() -> io::Result<Self> {
        let (send, receive) = mpsc::sync_channel::<Launch>(LAUNCHES_MAX);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("launcher".into()).spawn(move || {
            let _entered = runtime.enter();
            while let Ok(Launch { mut command, answer }) = receive.recv() {
                // An answer nobody waits for drops the child, and with it kills it.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self(send))
    }

    pub async fn launch(&self, mut command: Command) -> io::Result<Child> {
        command.env(PARENT_VARIABLE, getpid().as_raw_nonzero().to_string());
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the launcher thread is gone");
        self.0.try_send(Launch { command, answer }).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// To be called first in a supervised process: it is killed when its supervisor dies, by whatever.
/// Does nothing in a process that no supervisor started, or that a supervised one started.
pub fn die_with_parent() -> io::Result<()> {
    let named = std::env::var(PARENT_VARIABLE).ok().and_then(|pid| pid.parse().ok());
    let Some(supervisor) = named.and_then(Pid::from_raw) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(supervisor) {
        return Ok(());
    }
    // Another parent: the supervisor died before the kernel was told, or our parent is its child.
    if test_kill_process(supervisor).is_ok() {
        return Ok(set_parent_process_death_signal(None)?);
    }
    let gone = format!("supervisor {} is gone", supervisor.as_raw_nonzero());
    Err(io::Error::other(gone))
}
