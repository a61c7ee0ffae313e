//! One direction between two regions: how long bytes take, how many fit, and whether it is cut.

use crate::protocol::LinkStatus;
use cryptorun_platform::clock::{BootTime, Clock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What every pump on this path needs to know, changed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    delay: Duration,
    /// Bytes a second.
    bandwidth: Option<u64>,
    cut: bool,
    opened: BootTime,
}

pub struct Path {
    pub from: String,
    pub to: String,
    clock: Arc<dyn Clock>,
    state: watch::Sender<State>,
    /// When the wire is free for the next byte; moves only with a bandwidth.
    wire: Mutex<BootTime>,
    outages: Mutex<Outages>,
    pub bytes: AtomicU64,
    pub held: AtomicU64,
    pub connections: AtomicU64,
}

#[derive(Default)]
struct Outages {
    count: u64,
    total: Duration,
    since: Option<BootTime>,
}

impl Path {
    pub fn new(
        from: String,
        to: String,
        delay: Duration,
        bandwidth: Option<u64>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let opened = BootTime::default();
        let state = watch::Sender::new(State { delay, bandwidth, cut: false, opened });
        Self {
            from,
            to,
            clock,
            state,
            wire: Mutex::default(),
            outages: Mutex::default(),
            bytes: AtomicU64::new(0),
            held: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    pub fn id(&self) -> String {
        format!("{}>{}", self.from, self.to)
    }

    pub fn now(&self) -> BootTime {
        self.clock.boot()
    }

    pub fn delay(&self) -> Duration {
        self.state.borrow().delay
    }

    pub fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }

    /// When `bytes` handed over now are at the other end.
    pub fn due(&self, bytes: usize) -> BootTime {
        let now = self.now();
        let State { delay, bandwidth, .. } = *self.state.borrow();
        let Some(bandwidth) = bandwidth else { return now + delay };
        let mut wire = lock(&self.wire);
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(bandwidth.max(1));
        let sent = (*wire).max(now) + Duration::from_nanos(nanos as u64);
        *wire = sent;
        sent + delay
    }

    /// Waits until the path is open, and says when it opened.
    pub async fn open(&self) -> BootTime {
        let mut state = self.state.subscribe();
        match state.wait_for(|state| !state.cut).await {
            Ok(state) => state.opened,
            // The sender is ours: it lives as long as we do.
            Err(_) => BootTime::default(),
        }
    }

    /// Whether this changed anything.
    pub fn cut(&self) -> bool {
        let changed = self.state.send_if_modified(|state| !std::mem::replace(&mut state.cut, true));
        if changed {
            let mut outages = lock(&self.outages);
            outages.count += 1;
            outages.since = Some(self.now());
        }
        changed
    }

    /// Whether this changed anything.
    pub fn heal(&self) -> bool {
        let now = self.now();
        let changed = self.state.send_if_modified(|state| {
            state.opened = if state.cut { now } else { state.opened };
            std::mem::replace(&mut state.cut, false)
        });
        if changed {
            let mut outages = lock(&self.outages);
            if let Some(since) = outages.since.take() {
                outages.total += now - since;
            }
        }
        changed
    }

    pub fn set_delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    pub fn status(&self) -> LinkStatus {
        let State { delay, bandwidth, cut, .. } = *self.state.borrow();
        let outages = lock(&self.outages);
        let current = outages.since.map_or(Duration::ZERO, |since| self.now() - since);
        LinkStatus {
            id: self.id(),
            from: self.from.clone(),
            to: self.to.clone(),
            delay_us: delay.as_micros() as u64,
            bandwidth_bytes_per_second: bandwidth,
            cut,
            cuts: outages.count,
            cut_ms: (outages.total + current).as_millis() as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
            held_bytes: self.held.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            routes: Vec::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
