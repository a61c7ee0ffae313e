//! openraft's view of the async runtime: tokio, with randomness that a simulation can own.
//!
//! One type for production and simulation, so that both run the same code. Election timeouts are
//! the only thing openraft draws at random. Inside [`seeded`], a task and whatever it spawns draw
//! from a seed of their own, so a run repeats; outside, from the operating system.

use cryptorun_platform::random::{OsRandom, Random};
use openraft::type_config::AsyncRuntime;
use openraft_rt::{OptionalSend, Select2, Select3, Select4};
use openraft_rt_tokio::TokioRuntime;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::time::Duration;

tokio::task_local! {
    static SEED: Cell<u64>;
}

/// Steps of two sequences that never meet: one for a task's own numbers, one for its children.
const OWN: u64 = 0x9E37_79B9_7F4A_7C15;
const CHILD: u64 = 0x6A09_E667_F3BC_C909;

fn mix(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seed of a new child, where this task has one.
fn child_seed() -> Option<u64> {
    SEED.try_with(|seed| {
        let now = seed.get();
        seed.set(mix(now, OWN));
        mix(now, CHILD)
    })
    .ok()
}

/// Runs a future, and every task that openraft or [`spawn`] starts from it, on seeded randomness.
pub async fn seeded<F: Future>(seed: u64, future: F) -> F::Output {
    SEED.scope(Cell::new(seed), future).await
}

/// Starts a task that inherits the caller's seeded randomness.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match child_seed() {
        Some(seed) => tokio::spawn(SEED.scope(Cell::new(seed), future)),
        None => tokio::spawn(future),
    }
}

/// One generator; where it starts was decided by [`AsyncRuntime::thread_rng`].
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(OWN);
        mix(self.0, 0)
    }
}

impl rand_core::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Rng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn select2<A, B>(
        a: A,
        b: B,
    ) -> impl Future<Output = Select2<A::Output, B::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
    {
        TokioRuntime::select2(a, b)
    }

    fn select3<A, B, C>(
        a: A,
        b: B,
        c: C,
    ) -> impl Future<Output = Select3<A::Output, B::Output, C::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
        C: Future + OptionalSend,
    {
        TokioRuntime::select3(a, b, c)
    }

    fn select4<A, B, C, D>(
        a: A,
        b: B,
        c: C,
        d: D,
    ) -> impl Future<Output = Select4<A::Output, B::Output, C::Output, D::Output>> + OptionalSend
    where
        A: Future + OptionalSend,
        B: Future + OptionalSend,
        C: Future + OptionalSend,
        D: Future + OptionalSend,
    {
        TokioRuntime::select4(a, b, c, d)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Rng {
        Rng(child_seed().unwrap_or_else(|| OsRandom.next_u64()))
    }

    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        TokioRuntime::spawn_blocking(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng as _;

    async fn draws() -> (u64, u64) {
        let child = spawn(async { Runtime::thread_rng().next_u64() });
        (Runtime::thread_rng().next_u64(), child.await.expect("the child ends"))
    }

    #[tokio::test]
    async fn a_seed_repeats_and_children_draw_other_numbers() {
        let (first, again) = (seeded(7, draws()).await, seeded(7, draws()).await);
        assert_eq!(first, again);
        assert_ne!(first.0, first.1);
        assert_ne!(first, seeded(8, draws()).await);
    }

    #[tokio::test]
    async fn outside_a_seed_nothing_repeats() {
        assert_ne!(draws().await, draws().await);
    }
}
