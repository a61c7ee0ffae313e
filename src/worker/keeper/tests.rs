use super::*;
use crate::control::{CallFailed, Control};
use async_trait::async_trait;
use bytes::Bytes;
use cryptorun_core::command::Extended;
use cryptorun_core::config::Limits;
use cryptorun_core::scope::Tier;
use cryptorun_core::time::{LogTime, WallTime};
use cryptorun_core::wire::Problem;
use cryptorun_platform::clock::{Clock, ManualClock};
use cryptorun_platform::disk::SimDisk;
use cryptorun_platform::https::Events;
use cryptorun_platform::random::SeededRandom;
use cryptorun_platform::spawn::TokioSpawn;
use std::collections::VecDeque;

const TOKEN: Token = Token { incarnation: 0, epoch: 4 };

fn warm() -> ScopeId {
    ScopeId::new(Tier::Warm, "global")
}

/// What a scripted endpoint does with one call.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Answers, listing the lease, after so many milliseconds.
    Grant(u64),
    /// Answers as if for another renewal.
    Other(u64),
    /// The machine says no.
    Refuse,
    /// No answer for so many milliseconds.
    Silence(u64),
    /// Answers, listing the lease, but only so many milliseconds later; others are asked meanwhile.
    Wait(u64),
    /// Never answers.
    Hang,
}

/// A cluster that plays a script of renewals; sessions open and end by themselves.
struct Script {
    clock: Arc<ManualClock>,
    acts: Mutex<VecDeque<Act>>,
    calls: Mutex<Vec<(usize, String)>>,
}

impl Script {
    fn calls(&self, part: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(_, call)| call.contains(part)).count()
    }
}

#[async_trait]
impl Control for Script {
    fn endpoints(&self) -> usize {
        3
    }

    async fn send(
        &self,
        endpoint: usize,
        call: Call,
        _timeout: Duration,
    ) -> Result<(u16, Bytes), CallFailed> {
        let name = format!("{} {}", call.method, call.path);
        self.calls.lock().unwrap().push((endpoint, name));
        let renewed = |session: SessionKey, seq, extended| Renewed {
            cluster: ClusterId(1),
            session,
            seq,
            now: LogTime(0),
            extended,
            withheld: Vec::new(),
        };
        let json = |value: &dyn erased::Json| Ok((200, value.bytes()));
        if call.method == hyper::Method::DELETE {
            return json(&serde_json::json!({}));
        }
        if call.path == "/v1/sessions" {
            let request: OpenSessionRequest = serde_json::from_slice(&call.body).unwrap();
            let boot = u64::from_str_radix(&request.boot, 16).unwrap();
            let session = SessionKey { worker: "w".into(), boot };
            return json(&SessionOpened {
                renewed: renewed(session, 0, Vec::new()),
                timing: Timing::of(Profile::Wan),
                limits: Limits::default(),
                directives: Vec::new(),
            });
        }
        let act = self.acts.lock().unwrap().pop_front();
        let Some(act) = act else {
            return std::future::pending().await; // The script is over.
        };
        if call.path.ends_with("/handover") {
            let problem = Problem { status: 409, detail: "no".into(), ..Problem::default() };
            return Ok((409, problem.bytes()));
        }
        let session = call.path.split('/').nth(3).unwrap().parse().unwrap();
        let request: RenewRequest = serde_json::from_slice(&call.body).unwrap();
        let lease = Extended { scope: warm(), token: TOKEN, start: Position::START };
        let (after, seq) = match act {
            Act::Wait(span) => {
                tokio::time::sleep(Duration::from_millis(span)).await;
                (0, request.seq)
            }
            Act::Hang => return std::future::pending().await,
            Act::Grant(after) => (after, request.seq),
            Act::Other(after) => (after, request.seq + 7),
            Act::Refuse => return Ok((409, Problem::default().bytes())),
            Act::Silence(span) => {
                self.clock.advance(Duration::from_millis(span));
                return Err(CallFailed { sent: true, what: "no answer".into() });
            }
        };
        self.clock.advance(Duration::from_millis(after));
        json(&RenewAnswer {
            index: 1,
            wall: WallTime(0),
            renewed: renewed(session, seq, vec![lease]),
            directed: None,
            directives: Vec::new(),
        })
    }

    async fn directives(&self, _endpoint: usize, _session: &str) -> Option<Events> {
        None
    }
}

/// One way to bytes for every answer above.
mod erased {
    pub trait Json {
        fn bytes(&self) -> bytes::Bytes;
    }

    impl<T: serde::Serialize> Json for T {
        fn bytes(&self) -> bytes::Bytes {
            serde_json::to_vec(self).unwrap().into()
        }
    }
}

use erased::Json as _;

struct Nothing;

#[async_trait]
impl Reporter for Nothing {
    async fn report(&self) -> WorkerReport {
        WorkerReport::default()
    }
}

struct Kept {
    script: Arc<Script>,
    standing: Arc<Standing>,
    keeper: Arc<Keeper>,
    stop: CancellationToken,
}

/// Runs a keeper until the script is over.
async fn keep(acts: impl IntoIterator<Item = Act>) -> Kept {
    let clock = Arc::new(ManualClock::new(WallTime(0)));
    let platform = Platform {
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(3)),
        spawn: Arc::new(TokioSpawn),
        disk: Arc::new(SimDisk::new()),
    };
    let script = Arc::new(Script {
        clock: clock.clone(),
        acts: Mutex::new(acts.into_iter().collect()),
        calls: Mutex::default(),
    });
    let standing = Standing::new(clock);
    let keeper = Keeper::new(
        platform,
        Caller::new(script.clone()),
        standing.clone(),
        Arc::new(Nothing),
        WorkerAddresses::default(),
    );
    let stop = CancellationToken::new();
    tokio::spawn(keeper.clone().run(stop.clone()));
    let kept = Kept { script, standing, keeper, stop };
    kept.play_out().await;
    kept
}

impl Kept {
    async fn play_out(&self) {
        while !self.script.acts.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    /// Time left on the lease, in milliseconds.
    fn left(&self) -> Option<u64> {
        let held = self.standing.holds(&warm())?;
        Some((held.deadline - self.script.clock.boot().0) / 1_000_000)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_elsewhere_counts_from_the_first_attempt() {
    let kept = keep([Act::Silence(3_000), Act::Silence(1_000), Act::Grant(500)]).await;
    // TTL 10 s, ρ 1 %, G 500 ms: 9.4 s from the first attempt, 4.5 s ago.
    assert_eq!(kept.left(), Some(9_400 - 4_500));
    let endpoints: Vec<usize> = {
        let calls = kept.script.calls.lock().unwrap();
        calls.iter().filter(|(_, c)| c.contains("renew")).map(|(e, _)| *e).take(3).collect()
    };
    assert_eq!(endpoints, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_answered_in_time_still_counts() {
    // A second is the timeout: the first waits in a node for a leader, the second finds nobody.
    let kept = keep([Act::Wait(2_500), Act::Hang, Act::Hang]).await;
    assert_eq!(kept.left(), None);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(kept.left(), Some(9_400));
    assert_eq!(kept.script.calls("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_are_under_way_than_there_are_endpoints() {
    let kept = keep([Act::Hang, Act::Hang, Act::Hang]).await;
    tokio::time::sleep(Duration::from_millis(2_900)).await;
    assert_eq!(kept.script.calls("renew"), 3, "each is given as long as three attempts take");
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_another_renewal_does_not_count() {
    let kept = keep([Act::Other(0)]).await;
    assert_eq!(kept.left(), None);
}

#[tokio::test(start_paused = true)]
async fn past_the_deadline_the_session_is_ended_and_another_opened() {
    let kept = keep([Act::Grant(0), Act::Silence(9_399)]).await;
    assert_eq!(kept.left(), Some(1));
    kept.script.clock.advance(Duration::from_millis(1));
    assert_eq!(kept.left(), None, "not a millisecond longer");
    kept.script.acts.lock().unwrap().push_back(Act::Silence(0));
    let kept = keep([Act::Grant(0), Act::Silence(9_400), Act::Grant(0)]).await;
    assert_eq!(kept.script.calls("DELETE"), 1);
    assert_eq!(kept.script.calls("POST /v1/sessions/"), 3);
    assert_eq!(kept.left(), Some(9_400), "granted to the new session");
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_ends_everything_held() {
    let kept = keep([Act::Grant(0), Act::Refuse]).await;
    assert_eq!(kept.left(), None);
    assert_eq!(kept.script.calls("DELETE"), 0, "the log said that it is over");
}

#[tokio::test(start_paused = true)]
async fn a_refused_hand_over_gives_the_lease_back_by_a_later_renewal_only() {
    let kept = keep([Act::Grant(0)]).await;
    kept.script.acts.lock().unwrap().push_back(Act::Refuse);
    let given = kept.keeper.hand_over(&warm(), PromotionId(1), TOKEN, Position::START).await;
    assert_eq!(given, Given::Refused("no".into()));
    assert_eq!(kept.left(), None, "only a renewal lists it again");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_runs_off_holds_nothing_and_keeps_no_session() {
    let kept = keep([Act::Grant(0)]).await;
    assert!(kept.left().is_some());
    kept.standing.bar(Some("the boot clock runs off".into()));
    assert_eq!(kept.left(), None);
    kept.play_out().await;
    assert_eq!(
        kept.script.calls("DELETE"),
        1,
        "its leases are free for a worker that can tell time"
    );
    let opened = kept.script.calls("POST /v1/sessions");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(kept.script.calls("POST /v1/sessions"), opened, "and it asks for no others");

    kept.script.acts.lock().unwrap().push_back(Act::Grant(0));
    kept.standing.bar(None);
    assert_eq!(kept.left(), None, "what was counted on it is gone");
    kept.play_out().await;
    assert_eq!(kept.left(), Some(9_400), "granted to a new session");
}
