//! A timer that is right to some tens of microseconds without spinning.
//!
//! The runtime's own timer counts whole milliseconds, which is too coarse for a link of a few
//! milliseconds. The kernel's timer descriptors are not, and cost a wake-up like any other socket.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Shorter waits than this are over by the time they are asked for.
const SHORTEST: Duration = Duration::from_micros(10);

pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Must be called on a runtime. Fails when the process is out of descriptors.
    // Deprecated because a file type may close its descriptor under the registration; an `OwnedFd`
    // that nothing else touches does not, and what replaces it is `unsafe`.
    #[allow(deprecated)]
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    pub async fn sleep(&mut self, time: Duration) -> io::Result<()> {
        if time < SHORTEST {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(time.subsec_nanos()),
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let fired = ready.try_io(|fd| {
                let mut count = [0u8; 8];
                Ok(rustix::io::read(fd.get_ref(), &mut count)?)
            });
            match fired {
                Ok(result) => return result.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }
}
