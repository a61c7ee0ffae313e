//! One child: wanted up, down or gone, and what it does meanwhile.

use super::launcher::Launcher;
use super::logfile::LogFile;
use super::{ChildSettings, SupervisorError};
use crate::protocol::{ProcessState, ProcessStatus};
use cryptorun_platform::clock::{BootTime, Clock};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;

/// Pause before the first restart; doubles up to [`PAUSE_MAX`] while starts fail.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// One that ran this long did not fail to start: its next pause is the shortest again.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Up,
    Down,
    /// Down, and never to be wanted otherwise.
    Gone,
}

pub struct Child {
    pub settings: ChildSettings,
    log: PathBuf,
    writer: Arc<Mutex<LogFile>>,
    clock: Arc<dyn Clock>,
    wanted: watch::Sender<Wanted>,
    life: watch::Sender<Life>,
}

/// What is known of the process right now.
#[derive(Clone, Debug, Default)]
struct Life {
    /// Set from the start until it has been waited for.
    pid: Option<Pid>,
    frozen: bool,
    started: BootTime,
    starts: u64,
    last_end: Option<String>,
}

impl Child {
    pub fn new(
        settings: ChildSettings,
        log: PathBuf,
        log_bytes_max: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            writer: Arc::new(Mutex::new(LogFile::new(log.clone(), log_bytes_max))),
            log,
            clock,
            wanted: watch::Sender::new(Wanted::Up),
            life: watch::Sender::new(Life::default()),
        }
    }

    /// `Gone` is final.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|now| {
            let changes = *now != wanted && *now != Wanted::Gone;
            if changes {
                *now = wanted;
            }
            changes
        });
    }

    pub async fn launch(&self, launcher: &Launcher) -> io::Result<Process> {
        let mut command = Command::new(&self.settings.program);
        command
            .args(&self.settings.args)
            .envs(self.settings.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut process = launcher.launch(command).await?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let started = self.clock.boot();
        self.life.send_modify(|life| {
            life.pid = pid;
            life.frozen = false;
            life.started = started;
            life.starts += 1;
        });
        self.note(&format!("started, pid {}", pid.map_or(0, |pid| pid.as_raw_nonzero().get())));
        if let Some(output) = process.stdout.take() {
            tokio::spawn(copy(output, self.writer.clone()));
        }
        if let Some(output) = process.stderr.take() {
            tokio::spawn(copy(output, self.writer.clone()));
        }
        Ok(process)
    }

    /// Waits for the process and starts it again, until it is wanted gone and is.
    pub async fn tend(self: Arc<Self>, process: Process, launcher: Launcher) {
        let mut process = Some(process);
        let mut pause = PAUSE_MIN;
        loop {
            if let Some(running) = process.take() {
                let ran = self.wait(running).await;
                pause = if ran >= SETTLED { PAUSE_MIN } else { pause };
                if !self.settings.restart {
                    self.want(Wanted::Down);
                }
            }
            let mut wanted = self.wanted.subscribe();
            let asked = tokio::select! {
                biased;
                _ = wanted.wait_for(|wanted| *wanted != Wanted::Up) => true,
                () = tokio::time::sleep(pause) => false,
            };
            pause = if asked { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            match wanted.wait_for(|wanted| *wanted != Wanted::Down).await.map(|wanted| *wanted) {
                Ok(Wanted::Up) => {}
                _ => return,
            }
            match self.launch(&launcher).await {
                Ok(started) => process = Some(started),
                Err(error) => {
                    tracing::warn!(child = self.settings.name, %error, "cannot start");
                    let end = format!("cannot start: {error}");
                    self.life.send_modify(|life| life.last_end = Some(end));
                }
            }
            if process.is_some() && *wanted.borrow() == Wanted::Gone {
                let _ = self.signal(Signal::KILL); // Told to go while it was being started.
            }
        }
    }

    /// Until the process has ended; how long it ran.
    async fn wait(&self, mut process: Process) -> Duration {
        let ended = process.wait().await;
        let mut left = None;
        self.life.send_modify(|life| {
            left = life.pid.take();
            life.frozen = false;
            life.last_end = Some(match &ended {
                Ok(status) => describe(*status),
                Err(error) => format!("cannot be waited for: {error}"),
            });
        });
        if let Some(group) = left {
            let _ = kill_process_group(group, Signal::KILL); // What it started ends with it.
        }
        let life = self.life.borrow();
        let end = life.last_end.as_deref().unwrap_or_default();
        self.note(end);
        if *self.wanted.borrow() == Wanted::Up {
            tracing::warn!(child = self.settings.name, end, "ended");
        }
        self.clock.boot() - life.started
    }

    pub fn signal(&self, signal: Signal) -> Result<(), SupervisorError> {
        let name = || self.settings.name.clone();
        // Held while signalling: the pid is given up under the same lock.
        let life = self.life.borrow();
        let Some(group) = life.pid else {
            return Err(SupervisorError::NotRunning { name: name() });
        };
        kill_process_group(group, signal)
            .map_err(|error| SupervisorError::Signal { name: name(), source: error.into() })
    }

    /// SIGTERM; a frozen child is thawed, or it could not act on it.
    pub fn terminate(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::TERM)?;
        self.freeze(false)
    }

    pub fn freeze(&self, frozen: bool) -> Result<(), SupervisorError> {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT })?;
        self.life.send_modify(|life| life.frozen = frozen && life.pid.is_some());
        Ok(())
    }

    /// SIGTERM, grace, SIGKILL, and the end. The child must be wanted gone already.
    pub async fn stop(&self) {
        if self.terminate().is_ok() {
            let ended = tokio::time::timeout(self.settings.grace, self.ended()).await;
            if ended.is_err() {
                tracing::warn!(child = self.settings.name, "did not stop in its grace: killed");
                let _ = self.signal(Signal::KILL);
            }
        }
        self.ended().await;
    }

    async fn ended(&self) {
        let mut life = self.life.subscribe();
        let _ = life.wait_for(|life| life.pid.is_none()).await;
    }

    pub async fn until(&self, holds: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let (mut life, mut wanted) = (self.life.subscribe(), self.wanted.subscribe());
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            // Both senders are ours, so neither of these ends.
            tokio::select! {
                _ = life.changed() => {}
                _ = wanted.changed() => {}
            }
        }
    }

    pub fn status(&self) -> ProcessStatus {
        let life = self.life.borrow().clone();
        let state = match (life.pid, life.frozen, *self.wanted.borrow()) {
            (Some(_), false, _) => ProcessState::Running,
            (Some(_), true, _) => ProcessState::Frozen,
            (None, _, Wanted::Up) => ProcessState::Restarting,
            (None, _, Wanted::Down | Wanted::Gone) => ProcessState::Down,
        };
        let now = self.clock.boot();
        ProcessStatus {
            name: self.settings.name.clone(),
            role: self.settings.role.clone(),
            region: self.settings.region.clone(),
            state,
            pid: life.pid.map(|pid| pid.as_raw_nonzero().get()),
            up_ms: life.pid.map(|_| (now - life.started).as_millis() as u64),
            starts: life.starts,
            last_end: life.last_end,
            addresses: self.settings.addresses.clone(),
            log: self.log.clone(),
        }
    }

    /// A line of the supervisor's own in the child's log.
    fn note(&self, text: &str) {
        lock(&self.writer).write(format!("--- supervisor: {text}\n").as_bytes());
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".into(),
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, to: Arc<Mutex<LogFile>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        lock(&to).write(&buffer[..read]);
    }
}

fn lock(log: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
